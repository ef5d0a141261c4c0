"""The mean length of a file's rows, to convert a batch size in rows to tokens."""

from recipes.data import Data


def mean_row_tokens(address: str, objective: str) -> float:
    """Return the mean tokens of a file's rows, estimated from the first rows as the plan does; both sides of a pair count.

    Raises:
        UserError: the file has no rows of the kind that the objective needs.
    """
    from steps.plan.data.data_file import inspect_data

    found = inspect_data(Data(train=address, on_bad_row="skip"), objective)
    if found is None:
        raise RuntimeError("a file was left out, though every file can be read")
    rows, tokens = found.train.rows + found.held_out.rows, found.train.tokens + found.held_out.tokens
    return tokens / max(1, rows)
