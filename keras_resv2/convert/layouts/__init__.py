"""How libraries call the tensors of these networks: one file for each library, with a table of names."""

from keras_resv2.convert.layouts import cifar, keras_applications, pytorchcv, timm, torchvision

# The first layout that a source fits is taken.
PYTORCH = [timm.LAYOUT, *pytorchcv.LAYOUTS, torchvision.LAYOUT, cifar.ORIGINAL, cifar.PREACTIVATED]
KERAS = [keras_applications.V1, keras_applications.V2]
