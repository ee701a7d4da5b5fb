// Where the definitions of custom resources are that our chart makes, fetched by tests/cluster/crds.py. Nothing is built.
module dagferry/crds

go 1.24.0

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.3.0
)
