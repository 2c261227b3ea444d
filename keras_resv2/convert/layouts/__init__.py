"""Names of tensors in other libraries: one file for each library, with a table of names."""

from keras_resv2.convert.layouts import (
    cifar,
    huggingface,
    keras_applications,
    keras_example,
    keras_hub,
    pytorchcv,
    tf2cv,
    timm,
    torchvision,
)

# The first layout that fits a source is used.
PYTORCH = [timm.LAYOUT, *pytorchcv.LAYOUTS, huggingface.LAYOUT, torchvision.LAYOUT, *cifar.LAYOUTS]
KERAS = [keras_applications.V1, keras_applications.V2, keras_hub.V1, keras_hub.V2, *tf2cv.LAYOUTS, keras_example.LAYOUT]
