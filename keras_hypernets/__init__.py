"""Hypernetworks for Keras: layers whose weights are the output of a smaller network."""

from keras_hypernets import callbacks, converters, export, initializers, models, plots
from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.gated_rnn import GatedRNN
from keras_hypernets.dynamic.hyper_cell import HyperCell
from keras_hypernets.dynamic.hyper_gru import HyperGRU
from keras_hypernets.dynamic.hyper_gru_cell import HyperGRUCell
from keras_hypernets.dynamic.hyper_lstm import HyperLSTM
from keras_hypernets.dynamic.hyper_lstm_cell import HyperLSTMCell
from keras_hypernets.dynamic.hyper_simple_rnn import HyperSimpleRNN
from keras_hypernets.dynamic.hyper_simple_rnn_cell import HyperSimpleRNNCell
from keras_hypernets.dynamic.layer_norm_lstm import LayerNormLSTM
from keras_hypernets.dynamic.layer_norm_lstm_cell import LayerNormLSTMCell
from keras_hypernets.network.hyper_network import HyperNetwork
from keras_hypernets.static.hyper_conv1d import HyperConv1D
from keras_hypernets.static.hyper_conv2d import HyperConv2D
from keras_hypernets.static.hyper_conv3d import HyperConv3D
from keras_hypernets.static.hyper_dense import HyperDense
from keras_hypernets.static.kernel_generator import KernelGenerator
from keras_hypernets.version import __version__

__all__ = [
    "__version__",
    "GatedCell",
    "GatedRNN",
    "HyperCell",
    "HyperConv1D",
    "HyperConv2D",
    "HyperConv3D",
    "HyperDense",
    "HyperGRU",
    "HyperGRUCell",
    "HyperLSTM",
    "HyperLSTMCell",
    "HyperNetwork",
    "HyperSimpleRNN",
    "HyperSimpleRNNCell",
    "KernelGenerator",
    "LayerNormLSTM",
    "LayerNormLSTMCell",
    "callbacks",
    "converters",
    "export",
    "initializers",
    "models",
    "plots",
]
