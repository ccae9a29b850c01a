"""Latency and reward of a running `tailgrad serve`, for the same N and for prices of a sample.

Usage: python experiments/serving/measure.py NAME --url URL --prompts FILE [--reward_columns C ...] [--limit 32]
           [--n 1 4 16 64] [--price 0.08 0.03 0.013] [--clients 1]
       python experiments/serving/measure.py NAME --report_only

Each prompt is asked once in each setting. One client asks one request after the other, the settings of a prompt in a
random order. Several take the prompts of one setting between them, then those of the next. Rows are written as they
come into results/NAME.jsonl; what is there is not asked again.
"""

import argparse
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx2
from report import write_report

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--reward_columns", nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--n", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--price", type=float, nargs="*", default=[0.08, 0.03, 0.013])
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--report_only", action="store_true")
    given = parser.parse_args(words)
    rows_file = HERE / "results" / f"{given.name}.jsonl"
    if not given.report_only:
        settings: list[Row] = [{"best_of_n": n} for n in given.n]
        settings += [{"best_of_n": max(given.n), "max_price": price} for price in given.price]
        lines = given.prompts.read_text(encoding="utf-8").splitlines()[: given.limit]
        ask_all([json.loads(line) for line in lines], settings, given, rows_file)
    write_report(rows_of(rows_file), given.name, HERE)


def rows_of(rows_file: Path) -> list[Row]:
    """The rows that are there."""
    if not rows_file.exists():
        return []
    return [json.loads(line) for line in rows_file.read_text(encoding="utf-8").splitlines()]


def ask_all(prompts: list[Row], settings: list[Row], given: argparse.Namespace, rows_file: Path) -> None:
    """Ask what was not asked yet; the first answer, which opens connections and warms up, is not kept."""
    done = {(row["prompt"], json.dumps(row["setting"])) for row in rows_of(rows_file)}
    left = [
        pair for pair in in_order(len(prompts), settings, given.clients) if (pair[0], json.dumps(pair[1])) not in done
    ]
    pool = ThreadPoolExecutor(given.clients)
    with httpx2.Client(base_url=given.url, timeout=600.0) as client, rows_file.open("a", encoding="utf-8") as out, pool:
        model = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
        ask(client, model, prompts[0], {"best_of_n": 1}, given.reward_columns)

        def asked(pair: tuple[int, Row]) -> Row:
            number, setting = pair
            row = ask(client, model, prompts[number], setting, given.reward_columns)
            return {"prompt": number, "setting": setting, **row}

        for _, of_setting in groupby(left, key=lambda pair: json.dumps(pair[1]) if given.clients > 1 else ""):
            for row in pool.map(asked, list(of_setting)):  # those of the next setting wait for all of this one
                print(json.dumps(row), file=out, flush=True)
                print(f"prompt {row['prompt']}, {row['setting']}: {row['seconds']} s", flush=True)


def in_order(count: int, settings: list[Row], clients: int) -> list[tuple[int, Row]]:
    """Prompts, by their numbers, and settings in the order in which they are asked."""
    if clients == 1:
        return [(n, one) for n in range(count) for one in random.Random(n).sample(settings, len(settings))]
    return [(n, one) for one in random.Random(0).sample(settings, len(settings)) for n in range(count)]


def ask(client: httpx2.Client, model: str, prompt: Row, setting: Row, columns: list[str]) -> Row:
    """What one request gives: its seconds, samples and reward."""
    asked = prompt["prompt"]
    chat = isinstance(asked, list)
    body = {"model": model, "messages" if chat else "prompt": asked, **setting}
    body |= {"reward_columns": {name: prompt[name] for name in columns}} if columns else {}
    begun = time.perf_counter()
    answer = client.post("/v1/chat/completions" if chat else "/v1/completions", json=body)
    seconds = time.perf_counter() - begun
    if answer.is_error:
        raise SystemExit(f"{answer.status_code}: {answer.text}")
    extras = answer.json()["tailgrad"]
    return {"seconds": round(seconds, 4), **{name: extras[name] for name in ("asked", "scored", "reward")}}


if __name__ == "__main__":
    main()
