//! The one way a program is started: by argument vector, never through a shell, with a small environment, a time
//! limit, and the end of its stderr kept for the error.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// How much of the end of a program's stderr is kept.
pub const STDERR_TAIL_BYTES_MAX: usize = 8 * 1024;
/// How much stdout is kept if nothing else is said: enough for every tool that prints a description.
pub const STDOUT_BYTES_MAX_DEFAULT: usize = 1024 * 1024;
/// How long a program may run if nothing else is said.
pub const TIME_LIMIT_DEFAULT: Duration = Duration::from_secs(60);
/// Where programs are looked for, whatever the caller's own environment says.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with all that it is told, ready to be run once or several times.
#[derive(Debug, Clone)]
pub struct Tool {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    stdin: Vec<u8>,
    time_limit: Duration,
    stdout_bytes_max: usize,
    accepted_exits: Vec<i32>,
}

/// What a program that ended well has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code: 0 or one of those declared with [`Tool::accept_exit`].
    pub exit: i32,
    /// All it wrote to stdout; empty after [`Tool::run_streaming`].
    pub stdout: Vec<u8>,
    /// The last [`STDERR_TAIL_BYTES_MAX`] bytes of its stderr, as text.
    pub stderr_tail: String,
}

impl Output {
    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Why running a program failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such program.
    #[error("`{program}` is not installed")]
    Missing {
        /// Its name.
        program: String,
    },
    /// The kernel refused to start or to watch it.
    #[error("`{argv}` could not be run")]
    Start {
        /// The command line.
        argv: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with an exit code that means failure.
    #[error("`{argv}` failed with exit code {exit}{}", said(tail))]
    Failed {
        /// The command line.
        argv: String,
        /// The code.
        exit: i32,
        /// The end of its stderr.
        tail: String,
    },
    /// A signal ended it.
    #[error("`{argv}` was killed by signal {signal}{}", said(tail))]
    Killed {
        /// The command line.
        argv: String,
        /// The signal's number.
        signal: i32,
        /// The end of its stderr.
        tail: String,
    },
    /// It took longer than it may, and was killed with all its children.
    #[error("`{argv}` did not end within {} s{}", limit.as_secs(), said(tail))]
    TimedOut {
        /// The command line.
        argv: String,
        /// How long it had.
        limit: Duration,
        /// The end of its stderr.
        tail: String,
    },
    /// It wrote more than anybody wants to read, and was killed.
    #[error("`{argv}` printed more than {bytes_max} bytes")]
    TooMuchOutput {
        /// The command line.
        argv: String,
        /// How much it might have printed.
        bytes_max: usize,
    },
}

impl RunError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { program } => {
                Some(format!("install the package that has `{program}`, or use a boot image that holds it"))
            }
            Self::TimedOut { .. } => Some("see in the kernel's log whether a disk has stopped answering".to_owned()),
            _ => None,
        }
    }
}

fn said(tail: &str) -> String {
    let tail = tail.trim();
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}

impl Tool {
    /// The program `name`, looked for in [`PATH`] unless it is a path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        Self {
            program: name.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            stdin: Vec::new(),
            time_limit: TIME_LIMIT_DEFAULT,
            stdout_bytes_max: STDOUT_BYTES_MAX_DEFAULT,
            accepted_exits: vec![0],
        }
    }

    /// A whole argument vector, program first. `None` if it is empty.
    pub fn from_argv<S: AsRef<OsStr>>(argv: impl IntoIterator<Item = S>) -> Option<Self> {
        let mut argv = argv.into_iter();
        let program = argv.next()?;
        Some(Self::new(program).args(argv))
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One variable of the environment, which otherwise holds only `PATH` and the C locale.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where it runs; `/` if nothing is said.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// What it reads from stdin; nothing if nothing is said.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long it may run; [`TIME_LIMIT_DEFAULT`] if nothing is said.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How much it may print to stdout; [`STDOUT_BYTES_MAX_DEFAULT`] if nothing is said.
    pub fn stdout_bytes_max(mut self, bytes_max: usize) -> Self {
        self.stdout_bytes_max = bytes_max;
        self
    }

    /// An exit code besides 0 that is no failure.
    pub fn accept_exit(mut self, code: i32) -> Self {
        self.accepted_exits.push(code);
        self
    }

    /// The command line for people, each argument that needs it in quotes.
    pub fn argv(&self) -> String {
        let quoted = |word: &OsString| {
            let word = word.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+{}".contains(c);
            if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("{word:?}") }
        };
        std::iter::once(&self.program).chain(&self.args).map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end and keeps what it prints.
    pub fn run(&self) -> Result<Output, RunError> {
        let mut stdout = Vec::new();
        let bytes_max = self.stdout_bytes_max;
        let mut output = self.run_streaming(&mut |piece| {
            stdout.extend_from_slice(piece);
            stdout.len() <= bytes_max
        })?;
        output.stdout = stdout;
        Ok(output)
    }

    /// Runs it to its end and hands on what it prints as it comes. Where `consume` returns false, the program is
    /// killed and the result is [`RunError::TooMuchOutput`].
    pub fn run_streaming(&self, consume: &mut dyn FnMut(&[u8]) -> bool) -> Result<Output, RunError> {
        let argv = self.argv();
        tracing::info!(%argv, "run");
        let mut child = self.spawn(&argv)?;
        let mut tail = Tail::default();
        let end = self.attend(&mut child, &mut tail, consume);
        if !matches!(end, Ok(End::Exited(_))) {
            kill_group(&child);
            // Reaped so that no zombie stays behind; how it ended says nothing now.
            let _ = child.wait();
        }
        let tail = tail.into_text();
        let status = match end {
            Ok(End::Exited(status)) => status,
            Ok(End::TimedOut) => return Err(RunError::TimedOut { argv, limit: self.time_limit, tail }),
            Ok(End::Refused) => return Err(RunError::TooMuchOutput { argv, bytes_max: self.stdout_bytes_max }),
            Err(source) => return Err(RunError::Start { argv, source }),
        };
        match (status.code(), status.signal()) {
            (Some(exit), _) if self.accepted_exits.contains(&exit) => {
                Ok(Output { exit, stdout: Vec::new(), stderr_tail: tail })
            }
            (Some(exit), _) => Err(RunError::Failed { argv, exit, tail }),
            (None, signal) => Err(RunError::Killed { argv, signal: signal.unwrap_or(0), tail }),
        }
    }

    fn spawn(&self, argv: &str) -> Result<Child, RunError> {
        let mut command = Command::new(self.find_program());
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.as_deref().unwrap_or("/".as_ref()))
            .stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // SAFETY: prctl with these arguments is async-signal-safe and touches no memory; it is all that the closure
        // does between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A tool must not go on writing to a disk after the engine that started it is gone.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
        command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RunError::Missing { program: self.program.to_string_lossy().into_owned() },
            _ => RunError::Start { argv: argv.to_owned(), source },
        })
    }

    /// The program's path. It is looked up here because exec would search the caller's own `PATH`.
    fn find_program(&self) -> PathBuf {
        let name = PathBuf::from(&self.program);
        if name.components().count() > 1 {
            return name;
        }
        let found = PATH.split(':').map(|directory| PathBuf::from(directory).join(&name)).find(|path| path.is_file());
        found.unwrap_or_else(|| PathBuf::from("/nonexistent").join(&name))
    }

    /// One loop over the child's pipes and its end, so that neither a full pipe nor a silent child can block it.
    fn attend(&self, child: &mut Child, tail: &mut Tail, consume: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<End> {
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        if let Some(pipe) = &stdin {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let mut unwritten = &self.stdin[..];
        let mut deadline = Instant::now() + self.time_limit;
        let mut exited = None;
        let mut buffer = vec![0; 64 * 1024];
        while stdout.is_some() || stderr.is_some() || stdin.is_some() || exited.is_none() {
            let watched = [
                stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)),
                stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)),
                stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)),
                exited.is_none().then(|| PollFd::new(&pidfd, PollFlags::IN)),
            ];
            let Some([out_ready, err_ready, in_ready, ended]) = wait_for_any(watched, deadline)? else {
                // After its end only a grandchild that kept the pipes open can be waited for: long enough.
                if exited.is_some() {
                    break;
                }
                return Ok(End::TimedOut);
            };
            if out_ready && let Some(pipe) = &mut stdout {
                match pipe.read(&mut buffer)? {
                    0 => stdout = None,
                    n if !consume(&buffer[..n]) => return Ok(End::Refused),
                    _ => {}
                }
            }
            if err_ready && let Some(pipe) = &mut stderr {
                match pipe.read(&mut buffer)? {
                    0 => stderr = None,
                    n => tail.push(&buffer[..n]),
                }
            }
            if in_ready && let Some(pipe) = &mut stdin {
                match pipe.write(unwritten) {
                    Ok(n) => unwritten = &unwritten[n..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // It has read all it wants.
                    Err(_) => unwritten = &[],
                }
                if unwritten.is_empty() {
                    stdin = None;
                }
            }
            if ended {
                exited = Some(child.wait()?);
                stdin = None;
                deadline = Instant::now() + Duration::from_secs(1);
            }
        }
        match exited {
            Some(status) => Ok(End::Exited(status)),
            None => Err(io::Error::other("its end was not seen")),
        }
    }
}

/// Which of the descriptors are ready; `None` if none is before the deadline.
fn wait_for_any<const N: usize>(watched: [Option<PollFd<'_>>; N], deadline: Instant) -> io::Result<Option<[bool; N]>> {
    let places: Vec<usize> = (0..N).filter(|&index| watched[index].is_some()).collect();
    let mut fds: Vec<PollFd<'_>> = watched.into_iter().flatten().collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut ready = [false; N];
    for (fd, place) in fds.iter().zip(places) {
        ready[place] = !fd.revents().is_empty();
    }
    Ok(Some(ready))
}

enum End {
    Exited(ExitStatus),
    TimedOut,
    Refused,
}

fn kill_group(child: &Child) {
    // The group may be gone already; then there is nothing to kill.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

/// The end of a stream.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
        let surplus = self.0.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
        self.0.drain(..surplus);
    }

    fn into_text(self) -> String {
        String::from_utf8_lossy(&self.0).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_program_as_they_are() {
        let output = Tool::new("printf").arg("%s|").args(["$(id)", "a b", "--force", "*"]).run().unwrap();
        assert_eq!(output.text(), "$(id)|a b|--force|*|");
    }

    #[test]
    fn the_environment_is_small_and_the_locale_is_c() {
        let text = Tool::new("env").env("EXTRA", "1").run().unwrap().text();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["EXTRA", "LC_ALL", "PATH"]);
    }

    #[test]
    fn a_failure_says_the_command_the_code_and_the_end_of_stderr() {
        let error = Tool::new("sh").args(["-c", "echo no room >&2; exit 7"]).run().unwrap_err();
        assert_eq!(error.to_string(), r#"`sh -c "echo no room >&2; exit 7"` failed with exit code 7: no room"#);
        assert_eq!(Tool::new("sh").args(["-c", "exit 7"]).accept_exit(7).run().unwrap().exit, 7);
    }

    #[test]
    fn a_missing_program_is_named_with_a_way_out() {
        let error = Tool::new("mkfs.nothing").run().unwrap_err();
        assert_eq!(error.to_string(), "`mkfs.nothing` is not installed");
        insta::assert_snapshot!(error.hint().unwrap(), @"install the package that has `mkfs.nothing`, or use a boot image that holds it");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let begun = Instant::now();
        let marker = format!("{}.{}", 600 + std::process::id() % 100, std::process::id());
        let script = format!("sleep {marker} & sleep {marker}");
        let error = Tool::new("sh").args(["-c", &script]).time_limit(Duration::from_millis(200)).run().unwrap_err();
        assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
        let is_left = |process: &std::fs::DirEntry| {
            let argv = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            argv == format!("sleep\0{marker}\0").into_bytes()
        };
        let left = std::fs::read_dir("/proc").unwrap().flatten().filter(is_left).count();
        assert_eq!(left, 0, "no child outlives its parent");
    }

    #[test]
    fn endless_output_is_cut_off() {
        let error = Tool::new("yes").stdout_bytes_max(100_000).run().unwrap_err();
        assert!(matches!(error, RunError::TooMuchOutput { .. }), "{error}");
    }

    #[test]
    fn only_the_end_of_a_long_complaint_is_kept() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1";
        let RunError::Failed { tail, .. } = Tool::new("sh").args(["-c", script]).run().unwrap_err() else {
            panic!("it exits with 1")
        };
        assert!(tail.len() <= STDERR_TAIL_BYTES_MAX && tail.ends_with("line 2999"), "{}", tail.len());
    }

    #[test]
    fn large_input_and_output_do_not_block_each_other() {
        let bytes = vec![b'x'; 900_000];
        assert_eq!(Tool::new("cat").stdin(bytes.clone()).run().unwrap().stdout, bytes);
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_open_is_not_waited_for() {
        let begun = Instant::now();
        Tool::new("sh").args(["-c", "sleep 5 & exit 0"]).run().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}
