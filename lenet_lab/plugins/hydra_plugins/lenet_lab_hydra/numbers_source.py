"""`numbers://`: serves `lr/0.001` as `{value: 0.001}` for the groups that stand for a number."""

from __future__ import annotations

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from lenet_lab.config.numbers import NUMBER_GROUPS, number


class NumbersSource(ConfigSource):
    """A read-only source with one option for every number, in each number group."""

    @staticmethod
    def scheme() -> str:
        return "numbers"

    def load_config(self, config_path: str) -> ConfigResult:
        found = self._split(config_path)
        if found is None:
            raise ConfigLoadError(f"Config not found : {config_path}")
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://",
            config=OmegaConf.create({"value": found[1], **NUMBER_GROUPS[found[0]]}),
            header={"package": None},
        )

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path in NUMBER_GROUPS

    def is_config(self, config_path: str) -> bool:
        return self._split(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return sorted(NUMBER_GROUPS) if config_path == "" and results_filter != ObjectType.CONFIG else []

    @staticmethod
    def _split(config_path: str) -> tuple[str, int | float] | None:
        group, _, option = config_path.removesuffix(".yaml").partition("/")
        spelled = number(option)
        return None if group not in NUMBER_GROUPS or spelled is None else (group, spelled)
