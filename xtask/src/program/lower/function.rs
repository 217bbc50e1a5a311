//! The rewritten text while it grows: fresh names, and slots in a function's entry block.

/// Collects rewritten lines. `let_` gives each new value a name that no earlier round has used.
pub struct Text {
    lines: Vec<String>,
    round: usize,
    values: usize,
    /// Where the current function's entry instructions go, once its first line is there.
    entry_at: Option<usize>,
    entry: Vec<String>,
}

impl Text {
    /// An empty text; names carry the number of the round.
    pub fn new(round: usize) -> Self {
        Self { lines: Vec::new(), round, values: 0, entry_at: None, entry: Vec::new() }
    }

    /// Adds a line as it is.
    pub fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Starts a function with its `define` line.
    pub fn begin(&mut self, define: impl Into<String>) {
        self.line(define);
        self.entry_at = Some(self.lines.len());
        self.entry.clear();
    }

    /// Ends a function: puts its entry instructions behind the label of its first block.
    pub fn end(&mut self) {
        self.line("}");
        if let Some(at) = self.entry_at.take() {
            // Every block has a label, because the `instnamer` pass has run.
            let at = at + usize::from(!self.lines[at].starts_with(' '));
            self.lines.splice(at..at, self.entry.drain(..));
        }
    }

    /// A name no other value has.
    pub fn fresh(&mut self) -> String {
        self.values += 1;
        format!("%sbf.{}.{}", self.round, self.values)
    }

    /// Adds an instruction with a result, and returns the result's name.
    pub fn let_(&mut self, instruction: impl AsRef<str>) -> String {
        let name = self.fresh();
        self.set(&name, instruction);
        name
    }

    /// Adds an instruction whose result has a given name.
    pub fn set(&mut self, name: &str, instruction: impl AsRef<str>) {
        self.line(format!("  {name} = {}", instruction.as_ref()));
    }

    /// Adds an instruction to the entry block.
    pub fn entry(&mut self, instruction: impl AsRef<str>) {
        self.entry.push(format!("  {}", instruction.as_ref()));
    }

    /// Stack memory for a value of the type; allocated in the entry block, the only place BPF can allocate in.
    pub fn slot(&mut self, ty: &str) -> String {
        let name = self.fresh();
        self.entry(format!("{name} = alloca {ty}, align 8"));
        name
    }

    /// The whole text.
    pub fn finish(self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }
}
