"""An executor for tests: each task in a fresh process, started by the command that KubernetesExecutor gives a pod."""

import subprocess
import sys

from airflow.executors.base_executor import BaseExecutor


class FreshExecutor(BaseExecutor):
    """Starts processes, and looks whether they have ended."""

    is_local = True

    def start(self) -> None:
        self.started = {}

    def execute_async(self, key, command, **_options) -> None:
        """Start a task of Airflow 2."""
        self.started[key] = subprocess.Popen([sys.executable, "-m", *command])

    def _process_workloads(self, workloads) -> None:
        """Start tasks of Airflow 3."""
        for workload in workloads:
            del self.queued_tasks[workload.ti.key]
            self.running.add(workload.ti.key)
            command = ["-m", "airflow.sdk.execution_time.execute_workload", "--json-string", workload.model_dump_json()]
            self.started[workload.ti.key] = subprocess.Popen([sys.executable, *command])

    def sync(self) -> None:
        for key, process in list(self.started.items()):
            if process.poll() is not None:
                del self.started[key]
                (self.fail if process.returncode else self.success)(key)

    def end(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        for process in self.started.values():
            process.terminate()
