import os, sys; os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy as np
keras.utils.set_random_seed(0)
x = np.random.randn(256, 8).astype("float32"); y = (x[:, 0] > 0).astype("int32")
m = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2, activation="softmax")])
m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
m.fit(x, y, epochs=3, validation_split=0.25, verbose=int(sys.argv[1]))
