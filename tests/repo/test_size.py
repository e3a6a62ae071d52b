"""What a reader goes through in an evening stays that short; and the counter counts code, nothing else."""

from tools.count_lines import LIMIT, code_lines, evening, main, table


def test_the_files_from_tensors_to_direct_alignment_are_short_enough():
    counts = table()
    assert sum(counts.values()) <= LIMIT, counts
    assert all(count > 5 for count in counts.values())


def test_the_files_that_count():
    names = evening()
    assert (names[0], names[-1]) == ("tensors", "direct_alignment")
    assert {"kl", "sampling", "ppo", "grpo"} < set(names)
    assert not {"village", "equations", "ilql", "train"} & set(names)


def test_what_is_no_code_does_not_count():
    source = '"""Head."""\n\n# why\nx = """a\nb"""  # no docstring\n\n\nclass A:\n    """What\n\n    it is."""\n\n    y = 1\n'
    assert code_lines(source) == 4  # x over two lines, class, y


def test_a_file_that_is_too_long_is_found():
    """Negative control: comments and blank lines do not push a file over the limit, lines of code do."""
    assert code_lines("# why\n\n" * (LIMIT + 1)) == 0
    assert code_lines("x = 1\n" * (LIMIT + 1)) > LIMIT


def test_the_table_ends_in_the_sum(capsys):
    main()
    *rows, last = capsys.readouterr().out.splitlines()
    assert len(rows) == len(evening()) and rows[0].split() == ["tensors.py", str(table()["tensors"])]
    assert last.split()[:2] == ["together", str(sum(table().values()))] and str(LIMIT) in last
