"""What a deployment is made of, without a cluster."""

import asyncio
import inspect
import json
from pathlib import Path

import httpx
import pytest
import yaml
from ray.serve.request_router import PendingRequest
from ray.serve.schema import ServeDeploySchema
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from riverrun.cli.serve import engine
from riverrun.streaming.client import AsyncClient
from riverrun.streaming.deploy import Settings, application
from riverrun.streaming.deploy.gateway import KEY, Gateway, ask
from riverrun.streaming.deploy.homes import HomeRouter, home_of, named
from riverrun.streaming.server import create_app
from riverrun.streaming.server import protocol as p

from ..server.running import alone, durable, engine_of, noise
from ..tiny import tiny_model

FOLDER = Path(__file__).parents[2] / "streaming" / "deploy"


def test_tokens_name_their_home() -> None:
    capabilities = p.Capabilities(model="m", languages=["en"], latency_ms=1, latencies_ms=[1], sample_rate=16000)
    ready = p.Ready(session="s", resume_token="a-token_of-sixteen", capabilities=capabilities)
    told = p.parse_server(named(ready.model_dump_json(), "home7"))
    assert told == ready.model_copy(update={"resume_token": "home7.a-token_of-sixteen"})
    start = p.Start(model="m", resume=p.Resume(token=told.resume_token, seq=3))
    home, message = home_of(start.model_dump_json())
    assert home == "home7" and p.parse_client(message) == p.Start(model="m", resume=p.Resume(token="a-token_of-sixteen", seq=3))


@pytest.mark.parametrize("message", ['{"type":"start"}', '{"type":"finish"}', "{", '{"type":"start","resume":{"token":"x"}}'])
def test_other_first_messages_are_left_alone(message: str) -> None:
    assert home_of(message) == ("", message)
    error = '{"type":"error","code":"full","message":"later"}'
    assert named(error, "home7") == error


def test_streams_go_home_or_where_there_is_room() -> None:
    class Replica:
        def __init__(self, name: str):
            self.replica_id = type("Id", (), {"unique_id": name})

    def pending(home: str) -> PendingRequest:
        return type("Pending", (), {"metadata": type("Data", (), {"session_id": home}), "routing_context": type("Context", (), {})})  # type: ignore[return-value]

    everyone = [Replica(name) for name in "abc"]

    def ranks(home: str | None) -> list[list[str]]:
        request = None if home is None else pending(home)
        chosen = asyncio.run(HomeRouter.choose_replicas(None, everyone, request))  # type: ignore[arg-type]
        return [[replica.replica_id.unique_id for replica in rank] for rank in chosen]

    assert ranks("b")[0] == ["b"] and len(ranks("b")[1]) == 2
    for home in ("gone", "", None):
        (rank,) = ranks(home)
        assert len(set(rank)) == 2 and set(rank) <= set("abc")
    assert len({tuple(sorted(ranks("")[0])) for _ in range(100)}) == 3


def test_replicas_answer_those_with_the_key(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    served = create_app(engine_of(model))
    audio = noise(1.0, 90)

    async def main() -> None:
        gateway = Gateway(served, "the-key", "127.0.0.1", 1 << 20)
        with pytest.raises(RuntimeError, match="no longer listens"):
            gateway.check()
        await gateway.start()
        url = f"ws://{gateway.address}/v1/stream"
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://{gateway.address}") as http:
            assert (await http.get("/healthz")).status_code == 403
            assert (await http.get("/healthz", headers={KEY: "the-key"})).status_code == 200
        with pytest.raises(InvalidStatus, match="403"):
            async with connect(url, proxy=None):
                pass
        client = AsyncClient(url)
        client._options = lambda: {"additional_headers": {KEY: "the-key"}, "proxy": None}  # type: ignore[method-assign]
        async with client:
            assert durable([event async for event in client.hear([audio])]) == alone(model, audio)
        head = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        refused = await ask(served, "POST", "/v1/audio/transcriptions", b"", head, b"{}")
        assert refused.status == 400 and b"file: Field required" in refused.body
        listed = await ask(served, "GET", "/v1/models", b"", [], b"")
        assert listed.status == 200 and json.loads(listed.body)["data"][0]["id"] == "tiny"
        gateway.check()
        await gateway.stop()

    asyncio.run(main())


def test_settings() -> None:
    assert Settings(store="redis://localhost", anyone=True, replicas=(2, 8)).replicas == (2, 8)
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        Settings(anyone=True, replica=3)  # type: ignore[call-arg]
    for wrong in (Settings.model_construct(), Settings.model_construct(token_file="tokens", anyone=True)):
        with pytest.raises(ValueError, match="give a token_file, or say that anyone may use the server"):
            Settings(**wrong.model_dump())


def test_the_configuration_of_a_cluster() -> None:
    config = yaml.safe_load((FOLDER / "riverrun.yaml").read_text())
    (ours,) = ServeDeploySchema(**config).applications
    assert ours.import_path == "riverrun.streaming.deploy:application"
    (parameter,) = inspect.signature(application).parameters.values()
    assert parameter.annotation is Settings  # by which Ray Serve reads the arguments
    settings = Settings(**ours.args)
    inspect.signature(engine).bind(**settings.options)
    assert settings.engine == f"{engine.__module__}:{engine.__name__}"
