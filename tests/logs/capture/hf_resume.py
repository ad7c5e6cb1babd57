src = open("hf.py").read().replace('report_to=["tensorboard", "wandb", "trackio"]', 'report_to=[]').replace("hf_out", "hf_resume_out").replace("save_steps=10", "save_steps=5").replace(".train()", '.train(resume_from_checkpoint="hf_resume_out/checkpoint-10")')
exec(src)
