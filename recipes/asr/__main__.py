"""``python -m riverrun.recipes.asr fit --config recipes/asr/conf/tiny.yaml``: train a streaming recogniser."""

from pytorch_lightning.cli import LightningCLI

from .data import AsrData
from .module import AsrModule


def main() -> None:
    """Run the command line of Lightning over `AsrModule` and `AsrData`."""
    LightningCLI(AsrModule, AsrData, save_config_kwargs={"overwrite": True})


if __name__ == "__main__":
    main()
