import numpy as np, os, cv2
for s in ("train", "val"):
    os.makedirs(f"yd/images/{s}", exist_ok=True); os.makedirs(f"yd/labels/{s}", exist_ok=True)
    for i in range(8):
        im = np.random.randint(0, 255, (64, 64, 3), np.uint8); cv2.rectangle(im, (16, 16), (48, 48), (255, 0, 0), -1)
        cv2.imwrite(f"yd/images/{s}/{i}.jpg", im); open(f"yd/labels/{s}/{i}.txt", "w").write("0 0.5 0.5 0.5 0.5\n")
open("yd.yaml", "w").write(f"path: {os.getcwd()}/yd\ntrain: images/train\nval: images/val\nnames: [box]\n")
from ultralytics import YOLO
YOLO("yolov8n.yaml").train(data="yd.yaml", epochs=2, imgsz=64, batch=4, workers=0, device="cpu", amp=False, plots=False, project="yolo_out", name="t", exist_ok=True)
