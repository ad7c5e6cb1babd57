# A plain loop on two ranks, as many people write it.
import os, torch, torch.distributed as dist
dist.init_process_group("gloo"); r = dist.get_rank(); torch.manual_seed(r)
m = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1)); o = torch.optim.SGD(m.parameters(), 0.05)
for s in range(1, 11):
    x = torch.randn(16, 8); l = ((m(x) - x.sum(1, keepdim=True)) ** 2).mean(); o.zero_grad(); l.backward(); o.step()
    if s % 2 == 0: print(f"step {s}/10 | loss {l.item():.4f} | lr {0.05:.2e} | tok/s {1000 + r * 10 + s}", flush=True)
dist.destroy_process_group()
