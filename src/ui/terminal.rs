//! The loop, and the terminal that it borrows: raw mode, the alternate screen, signals, the clipboard.
//!
//! Three threads: this one owns the state and draws into memory; one reads keys; one writes finished frames. A terminal
//! that stops reading therefore holds up nothing: while a frame is still being written no other is drawn, and the next
//! one shows the newest state.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    Terminal,
    backend::{Backend, ClearType, WindowSize},
    buffer::Cell,
    crossterm::{
        cursor, event, execute, queue,
        terminal::{self, BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen},
    },
    layout::{Position, Size},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};

use crate::{model::redact, session::alerts::Alert};

use super::{
    App, Cmd, Msg,
    config::{From, Notify},
    keys,
    pen::Pen,
    probe,
    theme::Tone,
    update, view,
};

/// [`Outside::pace`] on a usual link, and on a slow one.
pub const FRAME: Duration = Duration::from_millis(50);
pub const SLOW_FRAME: Duration = Duration::from_secs(2);
/// The first frame waits so long for the terminal to tell its ground, so that it does not change under the eye.
const GROUND_WAIT: Duration = Duration::from_millis(8);
/// What data changes is drawn so much later, together with what else comes meanwhile: a sample, a line, the clock.
const GATHER: Duration = Duration::from_millis(40);
/// Messages of the sources that wait here, a quarter of a mebibyte each at most; more wait with their senders.
const WAITING: usize = 32;
/// Keys that wait to be answered.
const KEYS_WAITING: usize = 1024;
/// Largest screen that is drawn.
const MAX_COLUMNS: u16 = 500;
const MAX_ROWS: u16 = 200;
/// How long a terminal that does not read is waited for when leaving.
const PATIENCE: Duration = Duration::from_millis(700);
/// Largest text for the clipboard: terminals refuse more.
const CLIPBOARD: usize = 64 << 10;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The user left.
    Quit,
    /// A signal asked to leave.
    Signal(i32),
    /// The terminal is gone; there is nobody left to show anything to.
    TerminalGone,
}

/// What the loop needs from outside.
pub struct Outside<'a> {
    /// Saves a text under a file name and gives the path, or why not.
    pub save: &'a mut dyn FnMut(&str, &str) -> Result<String, String>,
    /// Opens what was chosen from a list, by its place, or says why not.
    pub choose: &'a mut dyn FnMut(&mut App, usize) -> Result<(), String>,
    /// The terminal is inside tmux: how the clipboard and notifications reach the outer one.
    pub tmux: bool,
    /// Which alerts ring the terminal's bell, and which notification it is sent from which severity on.
    pub bell: From,
    pub notify: (Notify, From),
    /// Ask the terminal whether its ground is light: nobody chose a theme.
    pub ask_ground: bool,
    /// Least time between two frames that only data asked for. A key is answered at once.
    pub pace: Duration,
    /// Calls whoever else is to be called. Must not wait.
    pub alert: &'a mut dyn FnMut(&Alert),
}

/// Whether the terminal says of itself that it cannot move its cursor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Shows `app` until the user leaves. `messages` brings events and ticks; when it closes, the screen stays.
pub fn run(app: &mut App, messages: Receiver<Msg>, outside: &mut Outside<'_>) -> io::Result<End> {
    let no_terminal = "the screen needs a terminal to show it on and to read keys from; try --once or --json";
    let typed_on = keys::terminal().map_err(|_| io::Error::other(no_terminal))?;
    if !io::stdout().is_terminal() {
        return Err(io::Error::other(no_terminal));
    }
    if is_dumb() {
        return Err(io::Error::other("this terminal cannot move its cursor (TERM is dumb); try --once or --json"));
    }
    let mailbox = Arc::new(Mailbox::default());
    watch_for_panics(&mailbox);
    terminal::enable_raw_mode()?;
    let guard = Restore;
    enter(&mut io::stdout())?;
    if outside.ask_ground {
        let mut out = io::stdout().lock();
        out.write_all(probe::GROUND.as_bytes()).and_then(|()| out.flush())?;
    }

    let signals = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH])?;
    let handle = signals.handle();
    listen_to_signals(signals, &mailbox);
    listen_to_keys(typed_on, &mailbox);
    listen_to_sources(messages, &mailbox);

    let end = turn(app, &mailbox, outside);
    mailbox.closed.store(true, Ordering::Relaxed);
    mailbox.changed.notify_all();
    handle.close();
    drop(guard);
    end
}

/// A panic of this thread gives the terminal back before it is reported; one of another thread becomes a message on
/// the screen, which its text would otherwise tear.
fn watch_for_panics(mailbox: &Arc<Mailbox>) {
    let screen = thread::current().id();
    let mailbox = Arc::clone(mailbox);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if mailbox.closed.load(Ordering::Relaxed) {
            before(info);
        } else if thread::current().id() == screen {
            mailbox.closed.store(true, Ordering::Relaxed);
            restore(&mut io::stdout());
            before(info);
        } else {
            let at = info.location().map(ToString::to_string).unwrap_or_default();
            mailbox.urgent(Letter::Panicked(at));
        }
    }));
}

/// The loop itself.
fn turn(app: &mut App, mailbox: &Arc<Mailbox>, outside: &mut Outside<'_>) -> io::Result<End> {
    let mut terminal = Terminal::new(Frames::start())?;
    let size = terminal.backend().size()?;
    app.size = (size.width, size.height);
    let mut dirty = Some(Instant::now());
    let mut urgent = true;
    let mut drawn: Option<Instant> = None;
    let (began, mut ground) = (Instant::now(), outside.ask_ground);
    loop {
        let due = match drawn {
            None if ground => GROUND_WAIT.saturating_sub(began.elapsed()),
            None => Duration::ZERO,
            Some(at) => {
                let gathered = dirty.map_or(GATHER, |since| since.elapsed());
                outside.pace.saturating_sub(at.elapsed()).max(GATHER.saturating_sub(gathered))
            }
        };
        if dirty.is_some() && (urgent && drawn.is_some() || due.is_zero()) && terminal.backend().idle() {
            terminal.draw(|frame| {
                fail_for_a_test("draw", drawn.is_some());
                view(app, app.theme(), frame);
            })?;
            (dirty, urgent, drawn) = (None, false, Some(Instant::now()));
        }
        let wait = dirty.map(|_| {
            if terminal.backend().idle() { due.max(Duration::from_millis(1)) } else { Duration::from_millis(10) }
        });
        for letter in mailbox.collect(wait) {
            let msg = match letter {
                Letter::Signal(SIGTSTP) => {
                    suspend(terminal.backend())?;
                    terminal.clear()?;
                    (dirty, urgent) = (Some(Instant::now()), true);
                    continue;
                }
                Letter::Signal(SIGWINCH) => {
                    let size = terminal.backend().size()?;
                    Msg::Terminal(event::Event::Resize(size.width, size.height))
                }
                Letter::Signal(signal) => return Ok(End::Signal(signal)),
                Letter::Panicked(at) => {
                    app.say(&format!("a part of oomph failed and stopped ({at}); the rest goes on"), Tone::Critical);
                    dirty = dirty.or(Some(Instant::now()));
                    continue;
                }
                Letter::Ground(colour) => {
                    ground = false;
                    if app.suit_ground(probe::is_light(colour)) {
                        dirty = dirty.or(Some(Instant::now()));
                    }
                    continue;
                }
                Letter::Gone => return Ok(End::TerminalGone),
                Letter::Msg(msg) => msg,
            };
            if matches!(msg, Msg::Tick(_)) && !io::stdout().is_terminal() {
                return Ok(End::TerminalGone);
            }
            urgent |= matches!(msg, Msg::Terminal(_));
            dirty = dirty.or(Some(Instant::now()));
            for cmd in update(app, msg) {
                match cmd {
                    Cmd::Quit => return Ok(End::Quit),
                    Cmd::Redraw => terminal.clear()?,
                    Cmd::Choose(place) => match (outside.choose)(app, place) {
                        Ok(()) => app.chooser = None,
                        Err(why) => app.say(&why, Tone::Warning),
                    },
                    Cmd::Suspend => {
                        suspend(terminal.backend())?;
                        terminal.clear()?;
                    }
                    Cmd::Alert(alert) => {
                        let sequence = notification(&alert, outside);
                        if !sequence.is_empty() {
                            terminal.backend_mut().bytes(sequence.as_bytes());
                        }
                        (outside.alert)(&alert);
                    }
                    // Secrets and home folders leave the screen by neither way.
                    Cmd::Copy(text) => copy(app, terminal.backend_mut(), &redact::block(&text), outside),
                    Cmd::Save { name, text } => match (outside.save)(&name, &redact::block(&text)) {
                        Ok(path) => app.say(&format!("saved to {path}"), Tone::Good),
                        Err(why) => app.say(&format!("not saved: {why}"), Tone::Critical),
                    },
                }
            }
        }
    }
}

/// Puts a text on the clipboard by OSC 52, which works over SSH; a text too long for that goes to a file.
fn copy(app: &mut App, frames: &mut Frames, text: &str, outside: &mut Outside<'_>) {
    if text.len() > CLIPBOARD {
        match (outside.save)("oomph-copy.txt", text) {
            Ok(path) => app.say(&format!("too long for the clipboard: saved to {path}"), Tone::Warning),
            Err(why) => app.say(&format!("too long for the clipboard, and not saved: {why}"), Tone::Critical),
        }
        return;
    }
    frames.bytes(clipboard_sequence(text, outside.tmux).as_bytes());
    app.say("copied", Tone::Good);
}

/// OSC 52. Inside tmux it is wrapped for the outer terminal as well, for a tmux that does not pass it on by itself.
fn clipboard_sequence(text: &str, tmux: bool) -> String {
    let plain = format!("\x1b]52;c;{}\x07", base64(text.as_bytes()));
    if tmux { format!("{plain}\x1bPtmux;{}\x1b\\", plain.replace('\x1b', "\x1b\x1b")) } else { plain }
}

/// The bell, and OSC 9 or OSC 777. tmux rings its own bell; a notification must pass through it.
fn notification(alert: &Alert, outside: &Outside<'_>) -> String {
    let mut out = String::new();
    if outside.bell.takes(alert.severity) {
        out.push('\x07');
    }
    let (kind, from) = outside.notify;
    // The text is clean of control characters; a semicolon would begin another field.
    let text: String = alert.text.as_str().chars().take(200).map(|c| if c == ';' { ',' } else { c }).collect();
    let sequence = match kind {
        Notify::Off => return out,
        Notify::Osc9 => format!("\x1b]9;oomph: {text}\x1b\\"),
        Notify::Osc777 => format!("\x1b]777;notify;oomph;{text}\x1b\\"),
    };
    if from.takes(alert.severity) {
        if outside.tmux {
            let _ = write!(out, "\x1bPtmux;{}\x1b\\", sequence.replace('\x1b', "\x1b\x1b"));
        } else {
            out.push_str(&sequence);
        }
    }
    out
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let n = chunk.iter().enumerate().fold(0u32, |n, (i, b)| n | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// The terminal is as others want it. Leaving the alternate screen a second time would put the cursor back over what was
/// printed since.
static GIVEN_BACK: AtomicBool = AtomicBool::new(true);

fn enter(out: &mut impl Write) -> io::Result<()> {
    GIVEN_BACK.store(false, Ordering::SeqCst);
    execute!(
        out,
        EnterAlternateScreen,
        event::EnableBracketedPaste,
        event::EnableMouseCapture,
        cursor::Hide,
        terminal::Clear(terminal::ClearType::All)
    )
}

/// Gives the terminal back as it was. Every step is tried, whatever became of the one before.
fn restore(out: &mut impl Write) {
    if GIVEN_BACK.swap(true, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(out, EndSynchronizedUpdate);
    let _ = execute!(out, event::DisableMouseCapture, event::DisableBracketedPaste);
    let _ = execute!(out, ratatui::crossterm::style::ResetColor, LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
}

/// Restores the terminal when dropped; a terminal that does not read cannot hold the exit up.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        let (done, finished) = mpsc::sync_channel(1);
        let _ = thread::Builder::new().name("restore".into()).spawn(move || {
            restore(&mut io::stdout());
            let _ = done.send(());
        });
        if finished.recv_timeout(PATIENCE).is_err() {
            let _ = terminal::disable_raw_mode();
        }
    }
}

/// Stops like any program that got `ctrl-z`, and comes back on `fg`.
fn suspend(frames: &Frames) -> io::Result<()> {
    frames.wait(PATIENCE);
    restore(&mut io::stdout());
    signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
    terminal::enable_raw_mode()?;
    enter(&mut io::stdout())
}

enum Letter {
    Msg(Msg),
    Signal(i32),
    /// The colour of the terminal's ground.
    Ground((u8, u8, u8)),
    /// Another thread panicked at this place in the source.
    Panicked(String),
    Gone,
}

/// Where keys, signals and data meet. Keys and signals are never held up by data.
#[derive(Default)]
struct Mailbox {
    queues: Mutex<Queues>,
    changed: Condvar,
    closed: AtomicBool,
}

#[derive(Default)]
struct Queues {
    urgent: VecDeque<Letter>,
    data: VecDeque<Msg>,
}

impl Mailbox {
    fn urgent(&self, letter: Letter) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).urgent.push_back(letter);
        self.changed.notify_all();
    }

    /// Waits while too many keys are unread: a flood of them waits in the terminal.
    fn typed(&self, event: event::Event) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        while queues.urgent.len() >= KEYS_WAITING && !self.closed.load(Ordering::Relaxed) {
            queues = self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
        queues.urgent.push_back(Letter::Msg(Msg::Terminal(event)));
        drop(queues);
        self.changed.notify_all();
    }

    /// Waits while too much is unread, so that a source reads no faster than the screen can take in.
    fn data(&self, msg: Msg) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        while queues.data.len() >= WAITING && !self.closed.load(Ordering::Relaxed) {
            queues = self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
        queues.data.push_back(msg);
        drop(queues);
        self.changed.notify_all();
    }

    /// Everything urgent and some of the data, waiting for it `wait` long or for ever.
    fn collect(&self, wait: Option<Duration>) -> Vec<Letter> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if queues.urgent.is_empty() && queues.data.is_empty() {
            queues = match wait {
                None => self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => self.changed.wait_timeout(queues, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        let mut letters: Vec<Letter> = queues.urgent.drain(..).collect();
        // Few at a time, so that a key pressed meanwhile is seen soon.
        let some = queues.data.len().min(16);
        letters.extend(queues.data.drain(..some).map(Letter::Msg));
        drop(queues);
        self.changed.notify_all();
        letters
    }
}

fn listen_to_signals(mut signals: signal_hook::iterator::Signals, mailbox: &Arc<Mailbox>) {
    let mailbox = Arc::clone(mailbox);
    let _ = thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            mailbox.urgent(Letter::Signal(signal));
        }
    });
}

fn listen_to_keys(terminal: Box<dyn AsFd + Send>, mailbox: &Arc<Mailbox>) {
    let mailbox = Arc::clone(mailbox);
    let _ = thread::Builder::new().name("keys".into()).spawn(move || {
        let mut send = |heard: keys::Heard| {
            if let Some(colour) = heard.ground {
                mailbox.urgent(Letter::Ground(colour));
            }
            for event in heard.events {
                mailbox.typed(event);
            }
            !mailbox.closed.load(Ordering::Relaxed)
        };
        if keys::read(terminal.as_fd(), &mut send).is_err() {
            mailbox.urgent(Letter::Gone);
        }
    });
}

/// Panics where a test wants to see what becomes of the terminal then; never outside debug builds.
fn fail_for_a_test(place: &str, now: bool) {
    assert!(
        !cfg!(debug_assertions) || !now || std::env::var_os("OOMPH_TEST_PANIC").is_none_or(|wanted| wanted != place),
        "a test asked for this"
    );
}

fn listen_to_sources(messages: Receiver<Msg>, mailbox: &Arc<Mailbox>) {
    let mailbox = Arc::clone(mailbox);
    let _ = thread::Builder::new().name("inbox".into()).spawn(move || {
        for msg in messages {
            if mailbox.closed.load(Ordering::Relaxed) {
                return;
            }
            fail_for_a_test("thread", true);
            mailbox.data(msg);
        }
    });
}

/// Draws into memory and hands each finished frame to the thread that writes.
struct Frames {
    /// The bytes of the frame that is being drawn; none as long as nothing differs.
    page: Vec<u8>,
    pen: Pen,
    writer: SyncSender<Vec<u8>>,
    busy: Arc<AtomicBool>,
}

impl Frames {
    fn start() -> Self {
        let (writer, frames) = mpsc::sync_channel::<Vec<u8>>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&busy);
        let _ = thread::Builder::new().name("writer".into()).spawn(move || {
            for frame in frames {
                let mut out = io::stdout().lock();
                let _ = out.write_all(&frame).and_then(|()| out.flush());
                done.store(false, Ordering::Release);
            }
        });
        Self { page: Vec::new(), pen: Pen::default(), writer, busy }
    }

    /// Has the last frame been written?
    fn idle(&self) -> bool {
        !self.busy.load(Ordering::Acquire)
    }

    fn wait(&self, patience: Duration) {
        let start = Instant::now();
        while !self.idle() && start.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends bytes that are no cells.
    fn bytes(&mut self, bytes: &[u8]) {
        self.wait(PATIENCE);
        self.send(bytes.to_vec());
    }

    /// A frame appears at once, not cell by cell.
    fn begin(&mut self) -> io::Result<()> {
        if self.page.is_empty() {
            queue!(self.page, BeginSynchronizedUpdate)?;
        }
        Ok(())
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.busy.store(true, Ordering::Release);
        if self.writer.try_send(bytes).is_err() {
            self.busy.store(false, Ordering::Release);
        }
    }
}

impl Backend for Frames {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut content = content.peekable();
        if content.peek().is_none() {
            return Ok(());
        }
        self.begin()?;
        self.pen.draw(&mut self.page, content);
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, _position: P) -> io::Result<()> {
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.begin()?;
        self.pen.rest(&mut self.page);
        // `ClearType::AfterCursor` and its like would rest on a cursor that this backend does not keep.
        let _ = clear_type;
        queue!(self.page, terminal::Clear(terminal::ClearType::All))
    }

    fn size(&self) -> io::Result<Size> {
        // One call; crossterm opens /dev/tty for it, and a frame is drawn only as large as it fits.
        let (columns, rows) = match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
            _ => terminal::size()?,
        };
        Ok(Size::new(columns.min(MAX_COLUMNS), rows.min(MAX_ROWS)))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.pen.rest(&mut self.page);
        queue!(self.page, EndSynchronizedUpdate)?;
        let frame = std::mem::take(&mut self.page);
        self.send(frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let check = |text: &str, want: &str| assert_eq!(base64(text.as_bytes()), want);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foobar", "Zm9vYmFy");
    }

    #[test]
    fn tmux_gets_the_sequence_wrapped_too() {
        assert_eq!(clipboard_sequence("hi", false), "\x1b]52;c;aGk=\x07");
        assert!(clipboard_sequence("hi", true).ends_with("\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\"));
    }

    #[test]
    fn an_alert_rings_and_notifies_as_configured() {
        use crate::session::alerts::Severity;
        let alert = |severity| Alert {
            rule: "hot",
            severity,
            subject: "GPU 0".into(),
            text: "GPU 0 is at 91 °C; look".into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            until: None,
            line: None,
            step: None,
            old: false,
        };
        let said = |severity, tmux, notify| {
            let (mut save, mut call) = (|_: &str, _: &str| Ok(String::new()), |_: &Alert| {});
            let mut choose = |_: &mut App, _: usize| Ok(());
            let outside = Outside {
                save: &mut save,
                choose: &mut choose,
                tmux,
                bell: From::Critical,
                notify,
                ask_ground: false,
                pace: FRAME,
                alert: &mut call,
            };
            notification(&alert(severity), &outside)
        };
        assert_eq!(said(Severity::Warning, false, (Notify::Off, From::Warning)), "");
        assert_eq!(said(Severity::Critical, false, (Notify::Off, From::Warning)), "\x07");
        assert_eq!(
            said(Severity::Warning, false, (Notify::Osc9, From::Warning)),
            "\x1b]9;oomph: GPU 0 is at 91 °C, look\x1b\\"
        );
        assert_eq!(said(Severity::Info, false, (Notify::Osc9, From::Warning)), "");
        assert_eq!(
            said(Severity::Warning, true, (Notify::Osc777, From::Info)),
            "\x1bPtmux;\x1b\x1b]777;notify;oomph;GPU 0 is at 91 °C, look\x1b\x1b\\\x1b\\"
        );
    }

    #[test]
    fn keys_pass_waiting_data() {
        let mailbox = Mailbox::default();
        for _ in 0..20 {
            mailbox.data(Msg::Quit);
        }
        mailbox.urgent(Letter::Signal(15));
        let letters = mailbox.collect(Some(Duration::ZERO));
        assert!(matches!(letters[0], Letter::Signal(15)));
        assert_eq!(letters.len(), 17);
    }
}
