import torch; torch.set_num_threads(1)
from stable_baselines3 import PPO
PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, n_epochs=2, verbose=1, seed=0, tensorboard_log=None, device="cpu").learn(400)
