"""Who a machine is, told by its own cloud."""
