"""Ad platforms, through which rules act: the only place that knows their APIs."""
