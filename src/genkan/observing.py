"""What watches a gateway worker: metrics, traces, its log, how late its event loop is, and what it refuses for that."""

from collections.abc import Callable, Mapping, Sequence

from genkan import __version__
from genkan.api.exchange import Exchange
from genkan.api.report import Observer, RequestMetrics
from genkan.api.routes import Api, PathTable
from genkan.config import Config
from genkan.fleet import Fleet
from genkan.gateway.overload import Overload
from genkan.gateway.router import Router
from genkan.server.heap import HeapTrim, glibc
from genkan.server.loop_watch import LoopWatch
from genkan.server.shedding import Shedding
from genkan.telemetry import catalog
from genkan.telemetry.access_log import AccessLog
from genkan.telemetry.affinity_metrics import AffinityMetrics
from genkan.telemetry.dead_processes import forget_dead_processes
from genkan.telemetry.gen_ai_metrics import GenAiMetrics
from genkan.telemetry.line_writer import line_writer
from genkan.telemetry.loop_metrics import LoopMetrics
from genkan.telemetry.metrics import HttpMetrics
from genkan.telemetry.tally import Tally
from genkan.telemetry.tracing import tracing_of
from genkan.telemetry.upstream_metrics import UpstreamMetrics


class Observing:
    """Constructed for one worker. ``start`` in its event loop, ``close`` when its last request has ended."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        tally: Tally,
        fleet: Fleet,
        router: Router,
        *,
        told: Observer,
        may_shed: Sequence[str],
    ) -> None:
        """``told`` hears of requests that end as well; ``may_shed`` are the paths that an overloaded worker refuses."""
        forget_dead_processes()
        catalog.BUILD_INFO.on().labels(__version__).set(1)
        line_writer().on_dropped = catalog.LOG_LINES_DROPPED.on().inc
        self._tally = tally
        self._access_log = AccessLog(config.telemetry)
        self._tracing = tracing_of(config.telemetry, environ)
        self._http, loop = HttpMetrics(tally), LoopMetrics(tally)
        self.gen_ai = GenAiMetrics(tally, [listed.name for listed in router.names()])
        AffinityMetrics(tally, router.affinities)
        upstreams = UpstreamMetrics(tally, fleet.connected)
        fleet.tell_waits(upstreams.waited)
        self._told: list[Observer] = [told, self._http]
        looked = [loop.looked, upstreams.looked, self._http.looked]
        self.shedding: Shedding | None = None  # what to refuse before it gets to us, for who holds the connections
        if max_lag_s := config.server.max_lag_s:
            hear = [*self._told, loop]
            self.shedding = Shedding(Overload(max_lag_s), may_shed, hear, self._http.failed, self._access_log)
            self._told.append(self.shedding)
            looked.append(self.shedding.looked)
        if (heap := glibc()) is not None:
            looked.append(HeapTrim(heap).looked)
        self._loop_watch = LoopWatch(looked)

    def api(self, table: PathTable, admit: Callable[[Exchange], None]) -> Api:
        """The application that serves ``table``, observed."""
        metrics = RequestMetrics(self._http, self.gen_ai)
        return Api(table, admit, self._told, self._access_log, metrics, self._tracing)

    def start(self) -> None:
        """Begin to look at the loop, and to write."""
        self._loop_watch.start()
        self._access_log.start()

    def stop(self) -> None:
        """The loop may be late from here on: parts are being closed."""
        self._loop_watch.stop()

    def close(self) -> None:
        """Write what is still held back."""
        self._tally.flush()
        if self._tracing is not None:
            self._tracing.close()
        self._access_log.close()

    def flush(self) -> None:
        """Write what was counted so far to where BentoML shows it from."""
        self._http.show_in_flight()
        self._tally.flush()
