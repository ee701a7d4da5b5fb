"""Which files a change of data touches: those that may read it, or list its folder."""

import pytest

from dagferry_core.source.graph import touched
from dagferry_core.source.scan import ANYTHING
from touching import bundle, touched_by


def test_who_may_read_a_changed_data_file_is_touched_and_who_imports_it():
    files = {
        "dag.py": "open('orders.sql')",
        "user.py": "import helper",
        "helper.py": "QUERY = Path(__file__).with_name('orders.sql').read_text()",
        "other.py": "open('other.sql')",
        "orders.sql": "select 1",
    }
    for change in ("select 2", None):
        assert touched_by({"orders.sql": change}, files) == ["dag.py", "helper.py", "user.py"]
    assert touched_by({"other.sql": "new"}, files) == ["other.py"]
    assert touched_by({"orders.sql": "select 2", "helper.py": "QUERY = 2"}, files) == ["dag.py", "user.py"]


def test_a_file_that_may_read_anything_is_touched_by_every_change_of_data():
    files = {"a.py": "", "dag.py": "", "user.py": "", "x.yml": ""}
    old, new = bundle(files), bundle(files | {"x.yml": "x"})
    assert touched(old, new, {"a.py": (), "dag.py": (), "user.py": ("dag",)}, {"dag.py": (ANYTHING,)}) == [
        "dag.py",
        "user.py",
    ]


@pytest.mark.parametrize(
    ("text", "read", "not_read"),
    [
        (
            "'orders.sql'",
            ["orders.sql", "sql/orders.sql", "a/b/orders.sql"],
            ["all_orders.sql", "orders.sql.bak", "order.sql"],
        ),
        ("'sql/orders.sql'", ["orders.sql", "a/sql/orders.sql"], ["a/orders.sql", "sql/a/orders.sql"]),
        ("'/opt/airflow/dags/sql/orders.sql'", ["sql/orders.sql"], ["other/orders.sql"]),
        ("'../sql/orders.sql', '../top.yml'", ["a/sql/orders.sql", "a/top.yml"], ["a/orders.sql"]),
        ("f'{HERE}/{name}.sql'", ["orders.sql", "a/b.sql"], ["orders.yml"]),
        ("f\"{d['sql']}/{name}_config.yml\"", ["a_config.yml", "x/b_config.yml"], ["config.yml", "a_config.yaml"]),
        ("'%s/daily_%(name)s.sql' % x", ["daily_a.sql"], ["a_daily.sql"]),
        ("'sql/{}.sql'.format(x)", ["sql/a.sql"], ["a/b.sql"]),
        ("name + '.yaml'", ["a.yaml", "b/c.yaml"], ["a.yml"]),
        ("name + '_config.yaml'", ["a_config.yaml"], ["a.yaml"]),
        ("path.endswith(('.yml', '.csv'))", ["a.yml", "b/c.csv"], ["a.yaml"]),
        ("'**/*.y*ml'", ["a.yml", "b/c.yaml"], ["a.json"]),
        ("'*.ya?ml'", ["b/c.yaml"], ["a.json"]),
        ("'configs/*.json'", ["a/configs/b.json"], ["a/b.json"]),
        ("load_dotenv('.env')", [".env"], ["env"]),
        ("'a.csv.gz'", ["a.csv.gz", "a.csv"], ["a.gz"]),
        ("open('my orders.sql')", ["my orders.sql", "a/my orders.sql"], ["orders_2.sql"]),
        ("'größe.sql'", ["größe.sql"], ["große.sql"]),
        ("bash_command='sh run.sh '", ["run.sh"], ["sh.sh"]),
        ("# reads team.json, and extra_*.json", ["team.json", "extra_1.json"], ["a.json"]),
        ("answer.json()", [], ["answer.json"]),
        ("yaml.load(x)", [], ["a.yaml", "yaml"]),
    ],
)
def test_a_name_in_the_text_matches_files(text, read, not_read):
    files = dict.fromkeys([*read, *not_read], "old") | {"near/dag.py": f"x = {text}"}
    for path in read:
        assert touched_by({path: "new"}, files) == ["near/dag.py"], path
    for path in not_read:
        assert touched_by({path: "new"}, files) == [], path


LISTINGS = [
    "for path in Path(__file__).parent.iterdir(): ...",
    "list(HERE.glob(PATTERN))",
    "list(HERE.rglob('*'))",
    "import glob\nglob.glob(x)",
    "from glob import iglob as g\ng(x)",
    "os.listdir(x)",
    "os.walk(x)",
    "with os.scandir(x) as entries: ...",
    "from os import listdir, path",
    "DAG('a', template_searchpath=x, sql='a.sql')",
    "import dagfactory\ndagfactory.load_yaml_dags(globals())",
    "from dagfactory import load_yaml_dags",
    "from cosmos import DbtDag, ProjectConfig",
    "import gusty",
    "from gusty import create_dag",
]


@pytest.mark.parametrize("text", LISTINGS)
def test_who_lists_folders_reads_all_data_below_its_own(text):
    files = {"team/dag.py": text, "team/a/b/c": "", "c": "", "other/c": "", "team/x.py": ""}
    assert touched_by({"team/a/b/c": "new"}, files) == ["team/dag.py"]
    assert touched_by({"c": "new", "other/c": "new", "team/x.py": "x = 1"}, files) == []


@pytest.mark.parametrize(
    "text",
    [
        "'configs'",
        '"../configs/"',
        "f'{HERE}/configs'",
        "HERE / 'team' / \"configs\"",
        "'configs/*'",
        "f'configs/{x}/'",
    ],
)
def test_who_lists_folders_reads_all_data_below_those_it_names(text):
    files = {"team/dag.py": f"os.walk({text})", "configs/a/b": "", "x/configs/c.txt": "", "conf/c.txt": ""}
    assert touched_by({"configs/a/b": "new"}, files) == ["team/dag.py"]
    assert touched_by({"x/configs/c.txt": "new"}, files) == ["team/dag.py"]
    assert touched_by({"conf/c.txt": "new"}, files) == []
    assert touched_by({"configs/a/b": "new"}, files | {"team/dag.py": f"print({text})"}) == []


@pytest.mark.parametrize("text", ["settings.DAGS_FOLDER", "conf.get('core', 'dags_folder')", "'/opt/airflow/dags'"])
def test_who_lists_the_dags_folder_reads_all_there_is(text):
    assert touched_by({"a/b": "new"}, {"team/dag.py": f"os.walk({text})", "a/b": ""}) == ["team/dag.py"]


def test_who_lists_folders_reads_files_of_an_ending_it_names():
    files = {"team/dag.py": "[x for x in os.listdir(d) if x.split('.')[-1] == 'yaml']", "a/b.yaml": "", "a/b.yml": ""}
    assert touched_by({"a/b.yaml": "new"}, files) == ["team/dag.py"]
    assert touched_by({"a/b.yml": "new"}, files) == []


def test_modules_are_no_data():
    files = {"dag.py": "for path in HERE.iterdir(): ...", "a.py": "", "fast.so": ""}
    assert touched_by({"a.py": "x", "fast.so": "x"}, files) == []
