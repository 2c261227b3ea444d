"""Networks in Keras: the residual unit and its two tables, stems and depths, and copies of networks in other forms.

- `blocks`, `shortcuts`: the residual unit, Fig. 4 and Fig. 2 of He et al. 2016.
- `config`: from the arguments of a network to its stem, stages and units.
- `network`, `layers`: the functional graph, and the Keras layers in it; `batch_norm`: the layer with its own kernels.
- `scan`: the units of a stage as a loop. `graph`, `copying`: reading and rebuilding functional models.
- `folding`: the form for inference. `flops`, `weights`, `adapters`, `pixels`: what a model is made of.
"""
