# Made by `python -m keras_resv2.stubs` from the table of public names: change that, and run it again.
import os
from collections.abc import Callable

import keras

from keras_resv2 import analysis as analysis
from keras_resv2 import convert as convert
from keras_resv2 import data as data
from keras_resv2 import hub as hub
from keras_resv2 import shortcuts as shortcuts
from keras_resv2 import transfer as transfer
from keras_resv2.architectures import list_architectures as list_architectures
from keras_resv2.builders import build as build
from keras_resv2.data import prepare_images as prepare_images
from keras_resv2.data import read_folder as read_folder
from keras_resv2.data import read_image as read_image
from keras_resv2.evaluation import measure_error as measure_error
from keras_resv2.exporting.exporter import export as export
from keras_resv2.labels import decode_predictions as decode_predictions
from keras_resv2.models.batch_norm import BatchNormalization as BatchNormalization
from keras_resv2.models.batch_norm import to_stock_layers as to_stock_layers
from keras_resv2.models.flops import count_multiply_adds as count_multiply_adds
from keras_resv2.models.folding import fold as fold
from keras_resv2.models.graph import deep_graph as deep_graph
from keras_resv2.pretrained import from_pretrained as from_pretrained
from keras_resv2.pretrained import list_pretrained as list_pretrained
from keras_resv2.pretrained import pretrained_card as pretrained_card
from keras_resv2.resnet import ResNet as ResNet
from keras_resv2.resnet import feature_info as feature_info
from keras_resv2.resnet import features as features
from keras_resv2.shortcuts import Shortcut
from keras_resv2.storage.weight_file import save_weights as save_weights
from keras_resv2.transfer import fine_tune as fine_tune
from keras_resv2.transfer import freeze as freeze
from keras_resv2.transfer import save_weight_folder as save_weight_folder
from keras_resv2.transfer import unfreeze as unfreeze

__version__: str

def ResNet20(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet20: 20 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet32(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet32: 32 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet44(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet44: 44 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet56(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet56: 56 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet110(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet110: 110 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet164(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet164: 164 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet1001(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet1001: 1001 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet1202(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet1202: 1202 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet18(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet18: 18 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet34(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet34: 34 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet50(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet50: 50 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet101(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet101: 101 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet152(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet152: 152 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def ResNet200(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "original",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """ResNet200: 200 layers (He et al. 2015, arXiv 1512.03385). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet20(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet20: 20 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet32(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet32: 32 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet44(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet44: 44 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet56(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet56: 56 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet110(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet110: 110 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet164(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet164: 164 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet1001(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet1001: 1001 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet18(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet18: 18 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet34(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet34: 34 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet50(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet50: 50 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet101(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet101: 101 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet152(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet152: 152 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...

def PreActResNet200(
    include_top: bool = True,
    weights: str | os.PathLike | dict | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    activation: str = "full_preactivation",
    shortcut: str | Shortcut = "identity",
    branch: str | None = None,
    projection: str | None = None,
    stride_on: str | None = None,
    stem: str | None = None,
    preprocessing: str | tuple | None = None,
    stride_in: str = "first",
    conv_bias: bool = False,
    activated_shortcuts: str = "first_and_projections",
    include_preprocessing: bool = True,
    rolled: bool = False,
    rematerialize: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """PreActResNet200: 200 layers (He et al. 2016, arXiv 1603.05027). Arguments as `ResNet` takes them.

    Args:
        weights: None (random), the dataset that pretrained weights were made on ("cifar10", or "cifar10@1" for version
            1), the path of a weight file, or a dictionary of arrays.
    """
    ...
