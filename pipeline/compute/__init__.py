"""Where rows are computed: devices, CPU cores and batches on a GPU."""
