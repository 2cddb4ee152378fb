"""One command at work: the labs it opens, what it says it will cost, and where results go.

Results go to stdout, progress and messages to stderr. Nothing here imports torch before a lab is
asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitgap.cli import STOPPED_EARLY, console
from bitgap.cli.stopping import Stop, TimeIsUp
from bitgap.errors import BitgapError, UserError
from bitgap.files import write_text
from bitgap.show.words import cost_line, preflight_line

if TYPE_CHECKING:
    from bitgap.lab.crew.crew import Crew
    from bitgap.lab.engine.budget import Preflight
    from bitgap.lab.lab import Lab
    from bitgap.lab.settings import Settings
    from bitgap.lab.store import Store
    from bitgap.records import Arithmetic, Scores
    from bitgap.report.run import Run
    from bitgap.show.charts import Figure

REPORT = "report.html"
"""What every run leaves, in ``--out`` or beside the store."""

_GO_ON = "Run the same command again to go on from there"

View = Callable[[Any], Any]
"""Turns a result into what rich can print."""


class Session:
    """One command at work; a context manager that closes the stores of the labs it opened."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begins a command.

        Args:
            options: What was asked; only read, here and by verbs.
        """
        self._options = options
        self._store: str = options.store
        self._out: str | None = options.out
        self._dry_run: bool = getattr(options, "dry_run", False)  # not all verbs have it
        self._stores = ExitStack()
        self._crew: Crew | None = None
        self._settings: Settings | None = None
        self._predicted: dict[str, Any] | None = None
        self._foresee: Callable[[], Preflight] | None = None
        self._at_begin: Callable[[], None] = lambda: None
        self._left: Callable[[], str] | None = None
        self._rss_at_start = 0
        self._started = time.time()
        self._begun = False
        self._kept_in, self._go_on = self._store, _GO_ON
        self._run_number: int | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._crew is not None:
            self._crew.close()
        self._stores.close()

    def why_it_ended(self, error: BaseException) -> str | None:
        """Returns what to tell of an error that ended the command, and what of the work is kept.

        Returns:
            A message, or None where the fault is ours and a traceback is due.
        """
        kept = f"; what was finished is kept in {self._kept_in}" if self._begun else ""
        if isinstance(error, KeyboardInterrupt):
            return self.why_it_stopped(error, left=True)
        if self._run_number is not None:
            kept = f"; the result is kept as run {self._run_number} in {self._store}"
        if isinstance(error, BitgapError):
            return f"bitgap: {error}"
        if isinstance(error, BrokenPipeError):
            return f"bitgap: nobody reads the output any more{kept}"
        if isinstance(error, OSError):
            what = f"{error.filename}: " if error.filename else ""
            return f"bitgap: cannot write: {what}{error.strerror or error}{kept}"
        # torch has an exception of its own for a GPU, and a plain RuntimeError for the processor.
        lack = re.search("out of memory|allocate memory", str(error), re.IGNORECASE)
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and lack):
            return f"bitgap: out of memory; give less --memory, or fewer sentences{kept}"
        return None

    def why_it_stopped(self, error: BaseException, *, left: bool = False) -> str:
        """Returns what to tell of a stop, what of the work is kept and how to go on.

        Args:
            error: The stop; a plain ``KeyboardInterrupt`` is one too.
            left: Whether to say what is left where the time is up, which takes some time itself.
        """
        how = error.how if isinstance(error, Stop) else Stop.how
        if not self._begun:
            return STOPPED_EARLY.replace(Stop.how, how, 1)
        if self._run_number is not None:
            return f"bitgap: {how}; the result is kept as run {self._run_number} in {self._store}"
        rest = self._what_is_left() if left and isinstance(error, TimeIsUp) else ""
        return f"bitgap: {how}; what was finished is kept in {self._kept_in}{rest}. {self._go_on}"

    def tell_left(self, words: Callable[[], str]) -> None:
        """Has it told what is left where the time is up, in words of the verb's own."""
        self._left = words

    def _what_is_left(self) -> str:
        if self._left is not None:
            return f"; left: {self._left()}"
        if self._foresee is None:
            return ""
        try:
            cost = self._foresee().as_dict()
        except Exception:  # what stands half done when it is stopped may not be asked any more
            return ""
        if not self._predicted or cost["plans_in_store"] > self._predicted["plans_in_store"]:
            return f"; left: {preflight_line(cost)}"
        return f"; no plan was finished, so give it longer; left: {preflight_line(cost)}"

    # -- before measuring ---------------------------------------------------------------------

    def open_lab(self, model: str | None, default: Arithmetic, *, keep: bool = True) -> Lab:
        """Returns a lab for a model, as the options describe it.

        Args:
            model: Folder or hub id; the bundled model when None.
            default: Arithmetic where the options name none.
            keep: Whether it writes into the store; never when only the cost is asked for.
        """
        # Before the libraries are imported, which takes seconds.
        console.say(f"reading {model or 'the bundled model'}")
        from bitgap.lab.engine.budget import current_rss_bytes, tune_heap_for
        from bitgap.lab.lab import Lab
        from bitgap.lab.settings import set_threads
        from bitgap.lab.store import Store

        asked = self._options
        if self._out and not self._dry_run:
            writable(self._out, "--out")
        self._settings = self._asked_settings(default)
        shared = asked.workers is not None or asked.cluster is not None
        if not shared:
            set_threads(asked.threads)
        elif self._crew is None:
            from bitgap.lab.crew.begin import begin_crew

            # Those that choose are told of all processors, as many as there would be threads.
            set_threads(asked.threads or (None if asked.workers == "auto" else 1))
            device = self._settings.device
            self._crew = begin_crew(
                asked.workers, cluster=asked.cluster, device=device, say=console.say
            )
            if asked.workers == "auto":
                set_threads(1)
        lab = Lab.from_pretrained(
            model,
            asked.corpus,
            languages=asked.languages,
            pairs=asked.pairs,
            treebanks=asked.treebanks,
            unigrams=asked.unigrams,
            prefix=asked.prefix,
            reference=asked.reference,
            store=self._store if keep and not self._dry_run else None,
            settings=self._settings,
            progress=console.Bar(),
            allow_pickle=asked.allow_pickle,
            trust_remote_code=asked.trust_remote_code,
            crew=self._crew,
        )
        tune_heap_for(lab.decoder, lab.engine.layout)
        if self._dry_run and Path(self._store).is_file():
            lab.store = Store(self._store, read_only=True)  # what it holds need not be paid for
        self._stores.callback(lab.store.close)
        self._rss_at_start = current_rss_bytes()
        return lab

    def _asked_settings(self, default: Arithmetic) -> Settings:
        from bitgap.lab.engine.budget import parse_bytes
        from bitgap.lab.settings import Settings, checked_device

        asked = self._options
        return Settings(
            arithmetic=asked.arithmetic or default,
            memory_bytes=parse_bytes(asked.memory),
            seed=asked.seed,
            device=checked_device(asked.device),
        )

    def on_begin(self, call: Callable[[], None]) -> None:
        """Has something called when measuring begins."""
        self._at_begin = call

    def begin(self, kept_in: str | None = None, go_on: str = _GO_ON) -> None:
        """Notes that the work begins: it is timed from here, and what is finished is kept.

        Args:
            kept_in: Where what is finished lies; the store when None.
            go_on: What to do where it is stopped.
        """
        self._started, self._begun = time.time(), True
        self._kept_in, self._go_on = kept_in or self._store, go_on
        self._at_begin()

    def announce_cost(self, foresee: Callable[[], Preflight]) -> bool:
        """Says what the work will cost, and begins it unless that is all that was asked.

        Args:
            foresee: Returns the cost beyond what the store holds; asked again where the time is up
                before it is done.

        Returns:
            Whether to go on.
        """
        from bitgap.show import views

        self._foresee = foresee
        self._predicted = foresee().as_dict()
        if self._dry_run:
            self.show({"preflight": self._predicted}, views.preflight_view, keep=False)
            return False
        console.say(preflight_line(self._predicted))
        self.begin()
        return True

    # -- results ------------------------------------------------------------------------------

    def keep(
        self,
        store: Store,
        view: View,
        *,
        map_scores: Scores | None = None,
        quiet: bool = False,
        **parts: Any,
    ) -> Run:
        """Stores what was found as a run, shows it, and leaves its figures and page.

        Where the cost was announced, what it did cost is told and stored beside it.

        Args:
            store: Where the run is put.
            view: Shows the run's JSON in a terminal.
            map_scores: Of every mask of the layer map, where that was all that was measured.
            quiet: Whether nothing is shown and left but what the store keeps, as several runs of a
                command are shown together.
            **parts: What was found in labs of this session: fields of
                :class:`bitgap.report.run.Run`.

        Returns:
            The run.

        Raises:
            StoreError: If the store cannot be written; the result is shown all the same.
        """
        from bitgap.lab.engine.budget import peak_rss_bytes
        from bitgap.lab.settings import provenance
        from bitgap.report.run import Run, run_in_hand, to_store
        from bitgap.stats.verdicts import load_thresholds

        # What is judged from evidence in hand opens no lab.
        settings = self._settings or self._asked_settings("fast")
        made = provenance(settings, self._started, load_thresholds().hash)
        cost = None
        if self._predicted is not None:
            cost = {
                "predicted_s": self._predicted["time_s"],
                "took_s": made.wall_s,
                "predicted_bytes": self._predicted["memory_bytes"],
                "peak_bytes": max(0, peak_rss_bytes() - self._rss_at_start),
            }
        command = self._options.command
        found = Run(store=self._store, command=command, provenance=made, cost=cost, **parts)
        run = run_in_hand(found, map_scores)
        findings = run.investigation.findings if run.investigation else ()
        try:
            self._run_number = store.put_run(command, made, to_store(run), findings)
        finally:
            # A store that is full is no reason to lose what was measured.
            if cost is not None:
                console.say(cost_line(cost, self._run_number, self._store))
            for line in self._crew.lines() if self._crew else ():
                console.say(line)
            if not quiet:
                self.show(run.result, view)
        run = replace(run, number=self._run_number)
        if not quiet:
            self._leave_files(run)
        return run

    def _leave_files(self, run: Run) -> None:
        from bitgap.report.figures.run import run_figures
        from bitgap.report.page import report_html

        if self._out:
            self.write_figures(run_figures(run))
        if not self._options.no_report:
            folder = Path(self._out) if self._out else Path(self._store).parent
            write_text(folder / REPORT, report_html(run))
            console.say(f"report: {folder / REPORT}")

    def show(self, result: Mapping[str, Any], view: View, *, keep: bool = True) -> None:
        """Prints a result as its view shows it, or as JSON.

        Args:
            result: As JSON.
            view: Shows it in a terminal.
            keep: Whether it is also written to ``--out`` as JSON.
        """
        try:
            if keep and self._out:
                file = writable(self._out, "--out") / f"{self._options.command}.json"
                write_text(file, f"{_json(result)}\n")
        finally:
            if self._options.json:
                console.write(_json(result, ascii_only=console.is_ascii_only()))
            else:
                console.show(view(result))

    def write_figures(self, figures: Mapping[str, Figure]) -> None:
        """Writes figures to ``--out`` as Vega-Lite specifications, each under its id."""
        folder = writable(self._out or ".", "--out")
        for id_, figure in figures.items():
            write_text(folder / f"{id_}.vl.json", f"{_json(figure.spec)}\n")


def _json(value: Any, ascii_only: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, indent=1, allow_nan=False)


def writable(folder: str, option: str) -> Path:
    """Returns a folder, made where it is not there, after trying to write in it.

    Raises:
        UserError: If nothing can be written there; better told before a measurement than after.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(
            f"{option} {folder}: cannot write there ({error.strerror or error}); name a folder "
            f"that can be made or written"
        ) from None
