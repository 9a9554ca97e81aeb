"""What can go wrong with the Hub, said so that the user knows what to do."""

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_gland.errors import HfGlandError


class HubError(HfGlandError):
    """Something cannot be published or read; the message names it and the remedy.

    `fault`: the message without the advice to run the command again, for those who try again by themselves.
    """

    def __init__(self, message: str, again: str = ""):
        super().__init__(f"{message}. {again}" if again else message)
        self.fault = message


def explain(error: Exception, repo: str, repo_type: str, revision: str = "main") -> HubError:
    """The HubError that says in the user's words what an exception of a Hub client means; never holds the token."""
    where = f"{repo} ({repo_type})"
    cause = error.__cause__
    if isinstance(error, RuntimeError) and isinstance(cause, Exception):
        return explain(cause, repo, repo_type, revision)  # "Error while uploading '…' to the Hub."
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"{where}: the Hub cannot be used while HF_HUB_OFFLINE is set; unset it")
    if isinstance(error, LocalTokenNotFoundError):
        return no_token()
    if isinstance(error, HFValidationError):
        return HubError(f"{repo}: not a repository name; write owner/name, of letters, digits, '-', '_' and '.'")
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{where}: has no branch, tag or commit '{revision}'; look at the names under "
                        f"{constants.ENDPOINT}/{_prefix(repo_type)}{repo}/refs, or leave the revision out")
    if isinstance(error, RepositoryNotFoundError):
        return HubError(f"{where}: not found on {constants.ENDPOINT}; check the name, or, if it is private, that the "
                        "token may read it")
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, where, repo)
    if isinstance(error, httpx2.TransportError):
        return HubError(f"{where}: the connection to {constants.ENDPOINT} failed ({str(error) or type(error).__name__})",
                        "Nothing was published half: run the same command again, and what was already uploaded is not "
                        "sent twice")
    return HubError(f"{where}: {str(error).strip() or type(error).__name__}")


def no_token() -> HubError:
    return HubError("no Hugging Face token: run `hf auth login`, or set HF_TOKEN to a token with write access from "
                    f"{constants.ENDPOINT}/settings/tokens")


def _explain_status(error: HfHubHTTPError, where: str, repo: str) -> HubError:
    status = error.response.status_code
    said = (error.server_message or "").strip().rstrip(".")
    if status == 401:
        return HubError(f"{where}: the token was refused (mistyped or expired?); run `hf auth login`, or set HF_TOKEN to "
                        f"a token from {constants.ENDPOINT}/settings/tokens")
    if status in (402, 403):
        return HubError(f"{where}: no permission to write ({said or status}). Use a token with write access from "
                        f"{constants.ENDPOINT}/settings/tokens, or a --repo under your own name instead of "
                        f"'{repo.split('/')[0]}'")
    if status == 412:
        return HubError(f"{where}: someone else has committed to it meanwhile; run the command again")
    if status == 429 or status >= 500:
        return HubError(f"{where}: the Hub answered {status}{f' ({said})' if said else ''}",
                        "Run the same command again later, and what was already uploaded is not sent twice")
    return HubError(f"{where}: the Hub answered {status}: {said or str(error).strip().splitlines()[0]}")


def _prefix(repo_type: str) -> str:
    return "" if repo_type == "model" else f"{repo_type}s/"
