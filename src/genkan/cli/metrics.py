"""``genkan metrics``: every metric there is."""

import click


@click.command()
def metrics() -> None:
    """Print the table of all metrics, as docs/observability.md has it."""
    from genkan.telemetry.catalog_table import metrics_table  # brings prometheus_client in

    click.echo(metrics_table(), nl=False)
