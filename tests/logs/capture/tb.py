import sys, math, numpy as np
which = sys.argv[1]
W = __import__("torch.utils.tensorboard" if which == "torch" else "tensorboardX", fromlist=["SummaryWriter"]).SummaryWriter
w = W(f"tb_{which}")
w.add_text("notes", "hello")
for s in range(12):
    w.add_scalar("Loss/train", 2.0 / (s + 1), s); w.add_scalar("lr", 1e-3 * (12 - s), s); w.add_scalar("grad_norm", math.inf if s == 5 else (math.nan if s == 7 else 1.0 + s), s)
    (w.add_histogram("weights", np.random.randn(50), s, bins=10) if s == 0 else None)
    if s % 4 == 3: w.add_scalar("Loss/val", 2.5 / (s + 1), s); w.add_image("img", np.zeros((3, 8, 8), dtype=np.float32), s)
if which == "torch": w.add_scalar("new_style", 3.5, 11, new_style=True); w.add_scalar("double", 1 / 3, 11, double_precision=True)
w.close()
