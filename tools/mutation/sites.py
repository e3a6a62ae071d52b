"""Where a module can be mutated: every small error that `__main__.py` puts in, one edit of the syntax tree each."""

import ast
import copy
from dataclasses import dataclass

ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
              ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
COMPARE = {ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
           ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn],
           ast.NotIn: [ast.In]}
PAIRS = [("min", "max"), ("any", "all"), ("sum", "mean"), ("clamp_min", "clamp_max"), ("amin", "amax"), ("std", "var"),
         ("minimum", "maximum"), ("argmin", "argmax"), ("zeros_like", "ones_like"), ("new_zeros", "new_ones"),
         ("zeros", "ones"), ("expm1", "exp"), ("log1p", "log"), ("log_softmax", "softmax"), ("floor", "ceil"),
         ("no_grad", "enable_grad"), ("cumsum", "cumprod")]
NAMES = {**dict(PAIRS), **{b: a for a, b in PAIRS}}
BUILTINS = {"min", "max", "any", "all"}
DROPPED = {"detach", "clamp", "clamp_min", "clamp_max", "abs", "exp", "sqrt", "square", "flip", "log"}  # x.f(...) -> x
ALONG = {"sum", "mean", "any", "all", "cumsum", "softmax", "log_softmax", "std", "var", "sort", "argsort", "gather",
         "stack", "cat", "repeat_interleave", "argmax", "argmin", "max", "min", "amin", "amax", "flip", "logcumsumexp"}
NEGATED = {"sigmoid", "logsigmoid"}
LEFT_OUT = "(left out)"
PLACES = {"math", "torch", "F", "nn"}  # modules: math.log(x) is no method of math


@dataclass
class Site:
    """One mutant. `lines`: where its code runs (empty: while the module is imported)."""

    function: str
    line: int
    lines: set
    edits: list  # (object, attribute or index, new value)
    statement: ast.stmt
    before: str = ""
    after: str = ""

    def apply(self):
        """Edit the tree in place; the returned edits undo it."""
        back = []
        for where, key, new in self.edits:
            if isinstance(where, list):
                back.append((where, key, where[key]))
                where[key] = new
            else:
                back.append((where, key, getattr(where, key)))
                setattr(where, key, new)
        return back[::-1]


def sites(tree):
    """All mutants of a module's tree, in the order of the text; the tree is left as it was."""
    finder = Finder()
    finder.block(tree.body, "", None)
    for site in finder.found:
        site.before = header(site.statement)
        back = site.apply()
        site.after = LEFT_OUT if isinstance(site.edits[0][2], ast.Pass) else header(site.statement)
        Site("", 0, set(), back, site.statement).apply()
    return [site for site in finder.found if site.before != site.after]


def heads(tree):
    """The first line of every function, decorators included: where its defaults are taken to run."""
    functions = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)]
    return {min([x.lineno, *(d.lineno for d in x.decorator_list)]) for x in functions}


def header(stmt):
    """A statement as one line of text; of a compound one its first line."""
    if hasattr(stmt, "body"):
        stmt = copy.copy(stmt)
        stmt.body, stmt.orelse, stmt.decorator_list = [ast.Pass()], [], []
        return ast.unparse(stmt).split("\n")[0]
    return ast.unparse(stmt).replace("\n", " ")


class Finder:
    def __init__(self):
        self.found, self.function, self.lines, self.stmt = [], "", set(), None

    def add(self, *edits):
        node = self.stmt
        self.found.append(Site(self.function, node.lineno, self.lines, list(edits), node))

    def block(self, body, function, entry):
        """Statements of a body, in the function of that name whose first line is `entry`."""
        for i, stmt in enumerate(body):
            head = stmt.body[0].lineno - 1 if getattr(stmt, "body", None) else stmt.end_lineno
            self.stmt, self.function = stmt, function
            self.lines = set(range(stmt.lineno, max(head, stmt.lineno) + 1)) if entry else set()
            if isinstance(stmt, (ast.Raise, ast.Import, ast.ImportFrom)):
                continue
            if isinstance(stmt, ast.Expr):
                if isinstance(stmt.value, ast.Constant):
                    continue  # a docstring
                if isinstance(stmt.value, ast.Call):
                    self.add((body, i, ast.copy_location(ast.Pass(), stmt)))
            if isinstance(stmt, (ast.FunctionDef, ast.ClassDef)):
                self.definition(stmt, function, entry)
                continue
            guard = isinstance(stmt, ast.If) and isinstance(stmt.body[-1], ast.Raise)
            self.fields(stmt, skip=("body", "orelse", "annotation"))
            if not guard and getattr(stmt, "body", None):  # what prepares a message is not mutated
                self.block(stmt.body, function, entry)
            if getattr(stmt, "orelse", None):
                self.block(stmt.orelse, function, entry)

    def definition(self, stmt, function, entry):
        name = f"{function}.{stmt.name}" if function else stmt.name
        if isinstance(stmt, ast.ClassDef):
            return self.block(stmt.body, name, None)
        first = min([stmt.lineno, *(d.lineno for d in stmt.decorator_list)])
        self.function, self.lines = name, {first} | (self.lines if entry else set())
        for field in ("defaults", "kw_defaults"):
            values = getattr(stmt.args, field)
            for i, value in enumerate(values):
                if value is not None:
                    self.visit(value, values, i)
        return self.block(stmt.body, name, first)

    def fields(self, node, skip=()):
        for field, value in ast.iter_fields(node):
            if field in skip:
                continue
            if isinstance(value, list):
                for i, x in enumerate(value):
                    if isinstance(x, ast.AST):
                        self.visit(x, value, i)
            elif isinstance(value, ast.AST):
                self.visit(value, node, field)
        if isinstance(node, (ast.If, ast.While)) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call)):
            self.add((node, "test", ast.UnaryOp(ast.Not(), node.test)))
        if isinstance(node, ast.AugAssign):
            self.operator(node)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            self.add((node.value, "elts", node.value.elts[::-1]))

    def operator(self, node):
        if type(node.op) in ARITHMETIC:
            self.add((node, "op", ARITHMETIC[type(node.op)]()))

    def visit(self, node, where, key):
        """All mutants of an expression that stands at where[key] (or where.key)."""
        if isinstance(node, (ast.JoinedStr, ast.operator, ast.cmpop, ast.expr_context, ast.boolop, ast.unaryop)):
            return
        kind = getattr(self, f"on_{type(node).__name__}", None)
        if kind is None or kind(node, where, key) is None:
            self.fields(node, skip=("annotation",))

    def on_BinOp(self, node, where, key):
        parts = list(ast.walk(node))
        text = any(isinstance(x, ast.JoinedStr) or isinstance(getattr(x, "value", 0), str) for x in parts)
        union = isinstance(node.op, ast.BitOr) and (text or any("stats" in getattr(x, "id", "") for x in parts))
        if not (union or text and isinstance(node.op, ast.Add)):
            self.operator(node)
            if isinstance(node.op, (ast.Mult, ast.Div)):
                self.add((where, key, node.left))
            if isinstance(node.op, ast.Mult):
                self.add((where, key, node.right))

    def on_Compare(self, node, where, key):
        for i, op in enumerate(node.ops):
            for new in COMPARE[type(op)]:
                self.add((node.ops, i, new()))

    def on_BoolOp(self, node, where, key):
        self.add((node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And()))

    def on_UnaryOp(self, node, where, key):
        self.add((where, key, node.operand))  # -x, ~x, not x

    def on_IfExp(self, node, where, key):
        self.add((node, "body", node.orelse), (node, "orelse", node.body))

    def on_Constant(self, node, where, key):
        if isinstance(node.value, bool):
            self.add((node, "value", not node.value))
        elif isinstance(node.value, (int, float)):
            bigger = node.value * 2 if isinstance(node.value, float) and node.value else node.value + 1
            self.add((node, "value", bigger))

    def on_Slice(self, node, where, key):
        for field in ("lower", "upper"):
            bound = getattr(node, field)
            if bound is not None and not isinstance(bound, ast.Constant):  # an off-by-one; constants have theirs
                self.add((node, field, ast.BinOp(bound, ast.Add(), ast.Constant(1))))

    def on_Call(self, node, where, key):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        method = isinstance(node.func, ast.Attribute)
        if name in NAMES and (method or name in BUILTINS):
            self.add((node.func, "attr" if method else "id", NAMES[name]))
        if method and name in DROPPED and getattr(node.func.value, "id", "") not in PLACES:
            self.add((where, key, node.func.value))
        if name == "where" and len(node.args) == 3:
            self.add((node, "args", [node.args[0], node.args[2], node.args[1]]))
        if name in NEGATED:
            self.add((node.args, 0, ast.UnaryOp(ast.USub(), node.args[0])))
        for word in node.keywords:
            if word.arg in ("min", "max"):
                self.add((word, "arg", NAMES[word.arg]))
        if not method or name not in ALONG:
            return None
        self.visit(node.func, node, "func")
        for i, arg in [*((i, a) for i, a in enumerate(node.args)), *((w, w.value) for w in node.keywords)]:
            place = (i, "value") if isinstance(i, ast.keyword) else (node.args, i)
            number = arg.operand if isinstance(arg, ast.UnaryOp) else arg
            if isinstance(number, ast.Constant) and type(number.value) is int and number.value in (0, 1):
                self.add((*place, ast.Constant(1 - number.value)))  # another dimension
            else:
                self.visit(arg, *place)
        return True
