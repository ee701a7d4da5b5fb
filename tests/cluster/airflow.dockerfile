# Airflow of one release from PyPI, with PostgreSQL, on a base of Debian's packages. It is laid out like Airflow's own image
# as far as the official chart needs: the user, the environment, /entrypoint, /clean-logs. Run by tests, in a real cluster.
ARG BASE
FROM ${BASE}
RUN useradd --uid 50000 --gid 0 --home-dir /home/airflow --create-home airflow \
 && install -d -o 50000 -g 0 -m 0775 /opt/airflow /opt/airflow/dags /opt/airflow/logs \
 && printf '#!/bin/sh\nexec "$@"\n' >/entrypoint && printf 'sleep infinity\n' >/clean-logs && chmod 755 /entrypoint
ENV AIRFLOW_HOME=/opt/airflow HOME=/home/airflow PATH=/home/airflow/.local/bin:/usr/lib/postgresql/15/bin:/usr/bin:/bin
USER 50000:0
ARG AIRFLOW
# What the official chart's defaults import: its users, its executors, its database.
RUN python3 -m venv /home/airflow/.local \
 && pip install --quiet --no-cache-dir --disable-pip-version-check "apache-airflow==${AIRFLOW}" \
    apache-airflow-providers-fab apache-airflow-providers-cncf-kubernetes psycopg2-binary asyncpg \
 && pip check && airflow version
WORKDIR /opt/airflow
ENTRYPOINT ["dumb-init", "--", "/entrypoint"]
