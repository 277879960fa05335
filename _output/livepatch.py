"""
Tables for livepatch.status and for what livepatch acts return
==============================================================

One line per host: verdict and the system it comes from, level, kernel, patches and functions in force, flags;
below it, for a host that is not simply well, the reason, systems that must not be mixed, what else is in
doubt, and the threads that hold a transition up. Documents of another shape are shown as nested data.

CLI Example:

.. code-block:: bash

    salt --out=livepatch '*' livepatch.status
    salt --out=livepatch '*' livepatch.apply
"""

# Salt gives an outputter no path to libraries, so this file stands alone.

import salt.output

COLUMNS = ("HOST", "VERDICT", "BY", "LEVEL", "KERNEL", "IN FORCE", "FIXES", "FLAGS")
WELL = ("patched", "unpatched")


def output(data, **kwargs):
    """
    ``data``: minion id -> document.

    CLI Example:

    .. code-block:: bash

        salt --out=livepatch '*' livepatch.status
    """
    if not isinstance(data, dict):
        return _nested(data)
    rows, rest = [COLUMNS], []
    for host in sorted(data):
        document = data[host]
        if isinstance(document, dict) and "verdict" in document:
            rows.append(_status_row(host, document))
            rest.extend(_remarks(host, document))
        elif isinstance(document, dict) and {"result", "comment", "changes"} <= set(document):
            rest.append(_act_line(host, document))
        else:
            rest.append(_nested({host: document}))
    table = _table(rows) if len(rows) > 1 else []
    return "\n".join([*table, *rest])


def _status_row(host, document):
    kernel = document.get("kernel") or {}
    return (
        host,
        document["verdict"],
        document.get("provider") or "-",
        _shown(document.get("level")),
        kernel.get("release") or "unknown",
        _in_force(document),
        " ".join(document.get("fixes") or ()) or "-",
        " ".join(document.get("flags") or ()) or "-",
    )


def _in_force(document):
    if document.get("effective"):  # another system's; it shows no functions
        return f"as {document['effective']}"
    objects = document.get("in_force") or {}
    functions = sum(len(functions) for functions in objects.values())
    if not functions:
        return "-"
    patches = sorted({patch for functions in objects.values() for patch in functions.values()})
    return f"{functions} function{'' if functions == 1 else 's'} by {' '.join(patches)}"


def _remarks(host, document):
    if document["verdict"] not in WELL or document.get("flags"):
        yield f"  {host}: {document.get('reason')}"
    for one in (*(document.get("conflicts") or ()), *(document.get("doubts") or ())):
        if one != document.get("reason"):
            yield f"  {host}: {one}"
    held = (document.get("approved") or {}).get("by_hand")
    if held:
        yield f"  {host}: held by hand at level {held['level']} ({held['reason']})"
    for one in document.get("stragglers") or ():
        where = f" in {one['function']}" if one.get("function") else ""
        owner = next((one[key] for key in ("unit", "container", "machine") if one.get(key)), None)
        whose = f" of {owner}" if owner else ""
        yield f"  {host}: thread {one['tid']} {one['comm']}{whose}: {one['reason']}{where}"


def _act_line(host, document):
    done = "would" if document.get("test") else "done"
    word = done if document["result"] else document.get("kind", "failed")
    return f"{host}: {word}: {document['comment']}"


def _table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _shown(level):
    return "unknown" if level is None else str(level)


def _nested(data):
    # get_printout obeys --out (in opts) before its own argument, and would come back here for ever.
    return salt.output.get_printout("nested", {**__opts__, "output": "nested"})(data).rstrip()
