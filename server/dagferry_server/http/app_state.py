"""What the applications of all listeners share besides the service: limits, senders, cached responses, counters."""

import asyncio

from dagferry_server.config.watched import Reload, WatchedFile
from dagferry_server.http.busy import Busy
from dagferry_server.http.concurrency import bundles, copies, downloads, reads, reports, uploads
from dagferry_server.http.current_answers import CurrentAnswers
from dagferry_server.http.refusals import Refusals
from dagferry_server.http.rejected_reads import RejectedReads
from dagferry_server.http.sending import PACKERS, Sender
from dagferry_server.http.status_answers import StatusAnswers
from dagferry_server.http.tls import Certificate, watched_certificate
from dagferry_server.settings import Settings

CERTIFICATE = "certificate"
"""The name of the certificate in ``reloads`` and in the metrics."""


class AppState:
    """Made on the event loop, with ``open``. ``certificate`` is that of the public listener; ``None``: it has none."""

    def __init__(self, certificate: WatchedFile[Certificate] | None) -> None:
        self.certificate = certificate
        self.sender, self.packer = Sender("send"), Sender("pack", PACKERS)
        self.upload_slots, self.bundle_slots, self.download_slots = uploads(), bundles(), downloads()
        self.copy_slots = copies()
        self.read_slots, self.report_slots = reads(), reports()
        self.current_answers = CurrentAnswers()
        self.status_answers = StatusAnswers()
        self.rejected_reads = RejectedReads()
        self.refusals = Refusals()
        self.busy = Busy()

    @classmethod
    async def open(cls, settings: Settings) -> "AppState":
        """Read the certificate that the settings name; ``SetupError`` if it cannot be used."""
        certificate = None
        if settings.tls_cert and settings.tls_key:
            certificate = await asyncio.to_thread(watched_certificate, settings.tls_cert, settings.tls_key)
        return cls(certificate)

    @property
    def reloads(self) -> dict[str, Reload]:
        """The result of the last reload of the certificate, if there is one."""
        return {CERTIFICATE: self.certificate.reload} if self.certificate else {}

    @property
    def certificate_expiry(self) -> float:
        """When the certificate expires, in seconds since the epoch; 0 if there is none."""
        return self.certificate.value.expires if self.certificate else 0.0

    def close(self) -> None:
        """Log the pending summaries, and end the threads."""
        self.rejected_reads.flush()
        for threads in (self.sender, self.packer):
            threads.close()
