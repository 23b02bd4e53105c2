"""Files of weights -> tensors by name: ours, Caffe's, and those of other training systems."""
