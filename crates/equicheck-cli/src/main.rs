//! `equicheck` without Python: audits ONNX models, shows saved reports, and says where the rest is to be had.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use equicheck_cli::{CouldNotRun, Host, run};

struct Process {
    stdout: io::Stdout,
    stderr: io::Stderr,
    interrupted: Arc<AtomicBool>,
}

impl Host for Process {
    fn interruption(&mut self) -> Rc<dyn Fn() -> bool> {
        let interrupted = Arc::clone(&self.interrupted);
        // From now on Ctrl-C ends the audit, which ends the process; a second one ends it at once.
        let handler = Arc::clone(&interrupted);
        let handle = move || {
            if handler.swap(true, Ordering::Relaxed) {
                // The call of the model that runs cannot be stopped otherwise.
                std::process::exit(130);
            }
        };
        // Where a handler cannot be set, the system's own ends the process.
        let _ = ctrlc::set_handler(handle);
        Rc::new(move || interrupted.load(Ordering::Relaxed))
    }

    fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && self.stderr.is_terminal()
    }

    fn read_line(&mut self) -> Result<Option<String>, CouldNotRun> {
        Ok(equicheck_cli::read_line(&mut io::stdin().lock()))
    }

    fn stdout(&mut self) -> &mut dyn Write {
        &mut self.stdout
    }

    fn stderr(&mut self) -> &mut dyn Write {
        &mut self.stderr
    }
}

fn main() -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    let mut process = Process { stdout: io::stdout(), stderr: io::stderr(), interrupted };
    ExitCode::from(run(std::env::args_os(), &mut process).code())
}
