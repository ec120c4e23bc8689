"""The fits: genetic, proven optimum, GQA-LUT, NN-LUT, uniform segments and secants."""
