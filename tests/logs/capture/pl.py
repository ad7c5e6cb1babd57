import torch, lightning as L, warnings
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.callbacks import LearningRateMonitor
torch.manual_seed(0); torch.set_num_threads(1)
class M(L.LightningModule):
    def __init__(s): super().__init__(); s.l = torch.nn.Linear(8, 2)
    def training_step(s, b, i):
        x, y = b; loss = torch.nn.functional.cross_entropy(s.l(x), y)
        s.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True); return loss
    def validation_step(s, b, i):
        x, y = b; o = s.l(x); s.log("val_loss", torch.nn.functional.cross_entropy(o, y), prog_bar=True); s.log("val_acc", (o.argmax(1) == y).float().mean())
    def configure_optimizers(s):
        o = torch.optim.AdamW(s.parameters(), 1e-2); return [o], [torch.optim.lr_scheduler.StepLR(o, 1)]
x = torch.randn(64, 8); y = (x[:, 0] > 0).long(); d = torch.utils.data.TensorDataset(x, y)
dl = lambda: torch.utils.data.DataLoader(d, batch_size=8)
t = L.Trainer(max_epochs=3, log_every_n_steps=2, logger=[CSVLogger("pl_out", name="csv"), TensorBoardLogger("pl_out", name="tb")], callbacks=[LearningRateMonitor()], accelerator="cpu", enable_model_summary=False, enable_checkpointing=False)
t.fit(M(), dl(), dl())
