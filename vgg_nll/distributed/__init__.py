"""Several processes that train one network, as torchrun starts them."""
