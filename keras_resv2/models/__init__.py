"""Networks in Keras: the residual unit and its two tables, stems and depths, and transformations of networks.

- `blocks`, `shortcuts`: the residual unit, Fig. 4 and Fig. 2 of He et al. 2016.
- `depths`: units per stage of the papers' networks.
- `config`: resolves the arguments of a network to its stem, stages and units.
- `network`, `layers`: the functional graph and its Keras layers; `batch_norm`: the layer with fused kernels.
- `scan`: the units of a stage as a loop. `graph`, `copying`: reading and rebuilding functional models.
- `folding`: the inference form. `flops`, `weights`, `adapters`, `pixels`: inspecting models and their weights.
"""
