"""The tables that a report carries, unpacked."""

import base64
import io
import zipfile

from gradaudit.report.blocks import data_files
from gradaudit.result_schema import ResultDocument


def files_in(document: ResultDocument) -> dict[str, str]:
    (packed,) = data_files(document)
    content = base64.b64decode(packed.href.split(",", 1)[1])
    assert len(content) == packed.size
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        return {name: bundle.read(name).decode("utf-8") for name in bundle.namelist()}
