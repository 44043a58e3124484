"""packaging/compose.yaml and packaging/Dockerfile, read as what they are: no container engine is needed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vmwatch import config
from vmwatch.channels import objection

PACKAGING = Path(__file__).parents[1] / "packaging"
VALUES = {"lines__home__pin": "1234", "channels__phone__url": "json://127.0.0.1:9/"}


@pytest.fixture
def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PACKAGING / "compose.yaml").read_text())["services"]["vmwatch"]
    return found


def test_the_container_has_no_rights_that_it_does_not_need(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_the_container_is_given_longer_than_vmwatch_takes_to_end(service: dict[str, Any]) -> None:
    assert service["stop_grace_period"] == "30s"


def test_the_composed_secrets_are_files_and_named_like_keys(service: dict[str, Any], tmp_path: Path) -> None:
    declared = yaml.safe_load((PACKAGING / "compose.yaml").read_text())["secrets"]
    assert service["secrets"] == list(declared) == list(VALUES)
    assert all(set(one) == {"file"} for one in declared.values())
    (tmp_path / "config.toml").write_text('[lines.home]\nnumber = "+4571919998"\n')
    for name in declared:
        (tmp_path / name).write_text(VALUES[name])
    loaded = config.load(tmp_path / "config.toml", {"CREDENTIALS_DIRECTORY": str(tmp_path)}, objection)
    assert (list(loaded.settings.lines), list(loaded.settings.channels)) == (["home"], ["phone"])


def test_the_image_runs_as_the_user_that_the_install_page_gives_the_secrets_to() -> None:
    dockerfile = (PACKAGING / "Dockerfile").read_text()
    page = (PACKAGING.parent / "docs/install.md").read_text()
    assert "\nUSER 10001:10001\n" in dockerfile
    assert page.count("-o 10001 ") == 3
