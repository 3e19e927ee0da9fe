"""Recurrent cells and layers: weights that change at every time step."""

from keras_hypernets.dynamic.hyper_gru import HyperGRU
from keras_hypernets.dynamic.hyper_lstm import HyperLSTM
from keras_hypernets.dynamic.hyper_simple_rnn import HyperSimpleRNN
from keras_hypernets.dynamic.layer_norm_lstm import LayerNormLSTM

# Every layer that can replace `keras.layers.LSTM`, by the name that models know it by.
LAYERS = {
    "hyper_lstm": HyperLSTM,
    "hyper_gru": HyperGRU,
    "hyper_simple_rnn": HyperSimpleRNN,
    "layer_norm_lstm": LayerNormLSTM,
}
