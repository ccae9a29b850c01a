"""What every figure and table of ours shares: style and colours, the cells of a table, numbers as JSON holds them."""
