"""Write the vectors: ``python -m tests.vectors.make``. A change in them is a change of the client's behaviour."""

from tests.vectors.telling import FOLDER, SUBJECTS, text

if __name__ == "__main__":
    for subject in SUBJECTS:
        (FOLDER / f"{subject}.json").write_text(text(subject), encoding="utf-8")
