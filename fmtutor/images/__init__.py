"""Flow matching of pictures: data sets, a U-Net, its training, and what comes out of it."""
