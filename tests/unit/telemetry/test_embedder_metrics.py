"""What the embedder does, as it is scraped."""

from prometheus_client import CollectorRegistry

from genkan.embedding.backlog import Backlog
from genkan.telemetry.embedder_metrics import EmbedderMetrics


def test_the_queue_is_as_long_as_the_line_and_who_is_refused_is_counted() -> None:
    registry = CollectorRegistry()
    backlog = Backlog(2, EmbedderMetrics(registry))
    lengths = [registry.get_sample_value("genkan_embedder_queue")]
    for _ in range(3):
        backlog.enter(10, 1.0)
        lengths.append(registry.get_sample_value("genkan_embedder_queue"))
    backlog.leave(10)
    assert [*lengths, registry.get_sample_value("genkan_embedder_queue")] == [0, 1, 2, 2, 1]
    assert registry.get_sample_value("genkan_embedder_refused_total") == 1


def test_a_batch_has_a_size_and_seconds() -> None:
    registry = CollectorRegistry()
    metrics = EmbedderMetrics(registry)
    metrics.computed(1, 0.004)
    metrics.computed(31, 0.5)
    assert registry.get_sample_value("genkan_embedder_batch_texts_sum") == 32, "texts"
    assert registry.get_sample_value("genkan_embedder_batch_texts_count") == 2, "batches"
    assert registry.get_sample_value("genkan_embedder_batch_texts_bucket", {"le": "1.0"}) == 1
    assert registry.get_sample_value("genkan_embedder_batch_seconds_bucket", {"le": "0.005"}) == 1
