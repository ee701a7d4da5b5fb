"""Every event of a bucket deploys it, whatever way it comes, and a failure fails the function.

The events have the shapes that AWS and Google document, with all their fields.
"""

import json
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import function
from buckets import FOLDER, FUNCTION, running_process
from deployer import DeployFailed
from harness import free_port

pytestmark = pytest.mark.slow
on_moto = pytest.mark.parametrize("kind", ["moto"], indirect=True)
on_gcs = pytest.mark.parametrize("kind", ["fake-gcs-server"], indirect=True)


def s3_event(bucket: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """What S3 sends to a queue or a function."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": "2026-11-20T06:45:01.000Z",
                "eventName": name,
                "userIdentity": {"principalId": "AWS:AIDAJDPLRKLG7UEXAMPLE"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZ"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "dags",
                    "bucket": {
                        "name": bucket,
                        "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                        "arn": f"arn:aws:s3:::{bucket}",
                    },
                    "object": {
                        "key": "dags/etl.py",
                        "size": 9,
                        "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                        "sequencer": "0055AED6DCD90281E5",
                    },
                },
            }
        ]
    }


def eventbridge_event(bucket: str) -> dict[str, Any]:
    """What EventBridge sends for a change in a bucket."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-11-20T06:45:01Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {"key": "dags/etl.py", "size": 9, "etag": "b1946ac9", "sequencer": "00617F08299329D189"},
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }


def test_event(bucket: str) -> dict[str, Any]:
    """What S3 sends when notifications are set up."""
    return {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2026-11-20T06:45:01.000Z",
        "Bucket": bucket,
        "RequestId": "5582815E1AEA5ADF",
        "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
    }


test_event.__test__ = False


def sqs_event(*bodies: object) -> dict[str, Any]:
    """What Lambda gets from a queue."""
    return {
        "Records": [
            {
                "messageId": f"059f36b4-87a3-44ab-83d2-66197{number:07}",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
                "body": json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
                "messageAttributes": {},
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:dags",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "resources": []}


@pytest.fixture
def on_aws(store, settings):
    """The function, as a new instance with the settings for the bucket, which has one DAG."""
    store.put("dags/etl.py", b"rate = 1\n")
    settings(store)
    function._aws_deployer.cache_clear()
    return lambda event: function.on_aws(event, None)


@on_moto
@pytest.mark.parametrize(
    "event",
    [
        s3_event,
        lambda bucket: s3_event(bucket, "ObjectRemoved:DeleteMarkerCreated"),
        eventbridge_event,
        lambda bucket: sqs_event(s3_event(bucket), s3_event(bucket)),
        lambda bucket: sqs_event(eventbridge_event(bucket)),
        lambda bucket: sqs_event(test_event(bucket), s3_event(bucket)),
        lambda _: SCHEDULED,
        lambda _: {},
    ],
    ids=["s3", "removed", "eventbridge", "sqs", "eventbridge through sqs", "test and change", "schedule", "by hand"],
)
def test_every_event_deploys_the_bucket(on_aws, store, event) -> None:
    done = on_aws(event(store.name))
    assert (done["message"], done["objects"], done["added"]) == ("deployed", 1, 1)
    assert on_aws(event(store.name))["message"] == "unchanged"


@on_moto
@pytest.mark.parametrize("wrapped", [lambda event: event, sqs_event], ids=["directly", "sqs"])
def test_the_test_of_notifications_changes_nothing(on_aws, store, wrapped) -> None:
    assert "nothing has changed" in on_aws(wrapped(test_event(store.name)))["message"]


@on_moto
@pytest.mark.parametrize("event", [s3_event, eventbridge_event], ids=["s3", "eventbridge"])
def test_an_event_of_another_bucket_fails(on_aws, store, event) -> None:
    with pytest.raises(DeployFailed, match=r"of the bucket 'others', but DAGFERRY_BUCKET is"):
        on_aws(sqs_event(event(store.name), event("others")))


@on_moto
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"DAGFERRY_BUCKET": None}, "DAGFERRY_BUCKET is not set"),
        ({"DAGFERRY_PREFIX": "dags"}, "must be empty or a folder"),
        ({"DAGFERRY_PREFIX": "/"}, "must be empty or a folder"),
        ({"DAGFERRY_SETTLE_SECONDS": "0"}, "must be 1 to 60 seconds"),
        ({"DAGFERRY_SETTLE_SECONDS": "61"}, "must be 1 to 60 seconds"),
        ({"DAGFERRY_SETTLE_SECONDS": "1.5"}, "must be 1 to 60 seconds"),
        ({"DAGFERRY_SERVER": None}, "No server was given"),
        ({"DAGFERRY_DEPLOYMENT": None}, "No deployment was given"),
        ({"DAGFERRY_BUCKET": "no-such-bucket"}, "NoSuchBucket"),
    ],
    ids=["no bucket", "prefix", "slash", "no pause", "long pause", "half", "no server", "no deployment", "other"],
)
def test_a_wrong_setting_fails(on_aws, store, settings, changed, why) -> None:
    settings(store, **changed)
    with pytest.raises(Exception, match=why):
        on_aws({})


# --- in Google's own framework, over HTTP -----------------------------------------------------------------------------


def storage_event(bucket: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What Eventarc sends for a new object: the data, and the attributes."""
    data = {
        "kind": "storage#object",
        "id": f"{bucket}/dags/etl.py/1795157101000000",
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{bucket}/o/dags%2Fetl.py",
        "name": "dags/etl.py",
        "bucket": bucket,
        "generation": "1795157101000000",
        "metageneration": "1",
        "contentType": "text/x-python",
        "timeCreated": "2026-11-20T06:45:01.000Z",
        "updated": "2026-11-20T06:45:01.000Z",
        "storageClass": "STANDARD",
        "size": "9",
        "md5Hash": "kHGQ3dbjD3HkUkJjRuD0Kg==",
        "crc32c": "rTVTeQ==",
        "etag": "CNHZkbuF/ugCEAE=",
    }
    attributes = {
        "ce-type": "google.cloud.storage.object.v1.finalized",
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{bucket}",
        "ce-subject": "objects/dags/etl.py",
        "ce-bucket": bucket,
    }
    return data, attributes


def pubsub_event(bucket: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What Eventarc sends for a message of a bucket's notifications."""
    data = {
        "subscription": "projects/p/subscriptions/eventarc-europe-west1-dags-sub-1",
        "message": {
            "attributes": {
                "bucketId": bucket,
                "eventTime": "2026-11-20T06:45:01.000000Z",
                "eventType": "OBJECT_FINALIZE",
                "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/1",
                "objectGeneration": "1795157101000000",
                "objectId": "dags/etl.py",
                "payloadFormat": "JSON_API_V1",
            },
            "data": "e30=",
            "messageId": "2070443601311540",
            "publishTime": "2026-11-20T06:45:01.123Z",
        },
    }
    topic = "//pubsub.googleapis.com/projects/p/topics/dags"
    return data, {"ce-type": "google.cloud.pubsub.topic.v1.messagePublished", "ce-source": topic}


def send(port: int, event: tuple[dict[str, Any], dict[str, str]]) -> int:
    """Send an event as Eventarc does; return the status."""
    data, attributes = event
    common = {"ce-specversion": "1.0", "ce-id": "1096434104173400", "ce-time": "2026-11-20T06:45:01.000Z"}
    headers = {"Content-Type": "application/json", **common, **attributes}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", json.dumps(data).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"


@pytest.fixture
def metadata(issuer):
    """Google's metadata server, which gives a function its identity; its host and port."""
    account = {"email": "dags@example.iam.gserviceaccount.com", "aliases": ["default"], "scopes": []}
    answers = {
        "/": lambda: "computeMetadata/\n",
        f"{ACCOUNT}?recursive=true": lambda: json.dumps(account),
        f"{ACCOUNT}identity?audience=dagferry&format=full": lambda: issuer.token(sub=FUNCTION),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Metadata-Flavor"] == "Google" and self.path in answers
            self.send_response(200 if is_known else 403)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/json" if "recursive" in self.path else "application/text")
            self.end_headers()
            self.wfile.write(answers[self.path]().encode() if is_known else b"")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def framework(store, settings, metadata, tmp_path: Path):
    """The function in the framework, with no token but the identity that the metadata server gives it."""
    store.put("dags/etl.py", b"rate = 1\n")
    settings(store, DAGFERRY_TOKEN=None)
    port, log = free_port(), tmp_path / "log"
    command = (sys.executable, "-m", "functions_framework", "--target", "on_gcp", "--source", f"{FOLDER}/function.py")
    how = ("--signature-type", "cloudevent", "--host", "127.0.0.1", "--port", str(port))
    hosts = {"GCE_METADATA_HOST": metadata, "GCE_METADATA_IP": metadata}
    with running_process(port, log, *command, *how, **hosts):
        yield port, log


@on_gcs
@pytest.mark.parametrize("event", [storage_event, pubsub_event], ids=["storage", "pubsub"])
def test_an_event_deploys_with_the_function_s_identity_and_a_failure_is_500(framework, server, store, event) -> None:
    port, log = framework
    assert send(port, event(store.name)) == 200
    logged = server.get(f"/{store.name}/dags/deploys", Authorization=f"Bearer {server.secret}")[1]
    [deploy] = json.loads(logged)["deploys"]
    assert (deploy["actor"].endswith(FUNCTION), deploy["added"]) == (True, 1)
    assert send(port, event(store.name)) == 200
    assert '"message": "unchanged"' in log.read_text()
    assert send(port, event("others")) == 500
    assert "An event is of the bucket 'others'" in log.read_text()
    store.remove("dags/etl.py")
    assert send(port, event(store.name)) == 500
    assert "An empty bucket is never deployed" in log.read_text()
