//! What stands on each screen.

mod plan;
mod work;

use restore_events::{
    ByItself, Choice, LogLevel, NetworkState, PlanConsent, QuestionKind, ServerState, TargetState, TroubleChoice,
};

use super::look::Tone;
use super::page::{Page, duration};
use super::{is_leaving, is_typing};
use crate::model::{Model, Overlay, View};

/// Lines of the log below a screen that has room.
const LOG_TAIL: usize = 5;

pub(super) fn fill(model: &Model, page: &mut Page) {
    match (model.ui.overlay, model.view()) {
        (Some(Overlay::Log), _) => log(model, page, usize::MAX),
        (Some(Overlay::Network), _) | (None, View::Network) => network_screen(model, page),
        (Some(Overlay::Leave), _) => leave(model, page),
        (None, View::Starting) => starting(model, page),
        (None, View::Text) => server_address(model, page),
        (None, View::Code) => restore_code(model, page),
        (None, View::Choice) => choice(model, page),
        (None, View::Plan) => plan::plan(model, page),
        (None, View::Consent) => consent(model, page),
        (None, View::Progress) => work::progress(model, page),
        (None, View::Result) => work::result(model, page),
        (None, View::Trouble) => trouble(model, page),
    }
}

/// Keys and their meaning, the most important first: what does not fit is left out.
pub(super) fn keys(model: &Model) -> Vec<(&'static str, &'static str)> {
    let mut keys = match (model.ui.overlay, model.view()) {
        (Some(Overlay::Leave), _) => vec![("b", "reboot"), ("p", "power off"), ("Esc", "back")],
        (Some(_), _) => vec![("Esc", "back")],
        (None, View::Starting | View::Network | View::Progress) => vec![],
        (None, View::Text | View::Code) => vec![("Enter", "go on"), ("^U", "clear")],
        (None, View::Choice) => vec![("Up/Down", "choose"), ("Enter", "go on")],
        (None, View::Plan) => vec![("c", "go on to consent"), ("d", "decline")],
        (None, View::Consent) => vec![("Enter", "erase and restore"), ("Tab", "next"), ("Esc", "back to plan")],
        (None, View::Result) => vec![("b", "reboot"), ("p", "power off")],
        (None, View::Trouble) => {
            let offered = model.trouble.as_ref().map(|(trouble, _)| trouble.choices.as_slice()).unwrap_or_default();
            let key = |choice: &TroubleChoice| match choice {
                TroubleChoice::Retry => Some(("r", "try again")),
                TroubleChoice::Shell => model.shell_allowed.then_some(("s", "shell")),
                TroubleChoice::Reboot => Some(("b", "reboot")),
                TroubleChoice::PowerOff => Some(("p", "power off")),
            };
            offered.iter().filter_map(key).collect()
        }
    };
    if model.shell_allowed && (is_leaving(model) || (model.ui.overlay.is_none() && model.view() == View::Result)) {
        keys.push(("s", "shell"));
    }
    if model.ui.overlay.is_none() {
        keys.extend([("^G", "log"), ("^N", "network")]);
        if is_typing(model) || !matches!(model.view(), View::Trouble | View::Result) {
            keys.push(("^X", "leave"));
        }
    }
    keys
}

fn starting(model: &Model, page: &mut Page) {
    page.text(Tone::Heading, "The restore engine is not answering yet");
    page.blank();
    page.text(Tone::Plain, model.status.as_deref().unwrap_or("Starting"));
    if model.session.is_some() {
        page.blank();
        page.text(Tone::Plain, "It was there before: what was begun goes on when it is back.");
    }
    page.blank();
    log(model, page, LOG_TAIL);
}

fn network_screen(model: &Model, page: &mut Page) {
    match &model.network {
        None => page.text(Tone::Plain, "Nothing is known of the network yet."),
        Some(network) => network_lines(network, page),
    }
    if let Some(server) = &model.server {
        page.heading("Server");
        server_lines(server, page);
    }
    if model.ui.overlay.is_none() {
        page.blank();
        log(model, page, LOG_TAIL);
    }
}

fn network_lines(network: &NetworkState, page: &mut Page) {
    if let Some(note) = &network.note {
        page.text(Tone::Plain, note);
    }
    page.heading("Interfaces");
    if network.interfaces.is_empty() {
        page.text(Tone::Bad, "none found: does this image hold the driver?");
    }
    for interface in &network.interfaces {
        let link = if interface.link_up { "link up" } else { "NO LINK" };
        let speed = interface.speed_mbps.map(|speed| format!(", {speed} Mb/s")).unwrap_or_default();
        let driver = interface.driver.as_deref().unwrap_or("no driver known");
        let tone = if interface.link_up { Tone::Plain } else { Tone::Warning };
        page.hanging(tone, &format!("{:<10} ", interface.name), &format!("{}  {driver}  {link}{speed}", interface.mac));
        for address in &interface.addresses {
            page.hanging(Tone::Good, "           ", address);
        }
    }
    page.blank();
    page.pair("Gateway", network.gateway.as_deref().unwrap_or("none"));
    page.pair("Name servers", &if network.dns.is_empty() { "none".into() } else { network.dns.join(", ") });
}

fn server_lines(server: &ServerState, page: &mut Page) {
    page.pair("Address", &server.url);
    page.pair("Authenticated", if server.authenticated { "yes" } else { "not yet" });
    if let Some(fingerprint) = &server.fingerprint {
        page.pair("Fingerprint", fingerprint);
    }
    if let Some(note) = &server.note {
        page.text(Tone::Plain, note);
    }
}

fn leave(model: &Model, page: &mut Page) {
    page.text(Tone::Heading, "Leave the restore?");
    page.blank();
    if model.is_writing() {
        page.text(
            Tone::Bad,
            "Disks are being written. They stay unbootable until a restore is finished; the next start goes on with it.",
        );
    } else {
        page.text(Tone::Plain, "Nothing has been written to any disk.");
    }
    page.blank();
    page.hanging(Tone::Plain, "b    ", "reboot");
    page.hanging(Tone::Plain, "p    ", "power off");
    if model.shell_allowed {
        page.hanging(Tone::Plain, "s    ", "rescue shell on this console; the restore goes on meanwhile");
    }
    page.hanging(Tone::Plain, "Esc  ", "back");
}

/// What the engine and this screen have against the answer, and whether it is on its way.
fn remarks(model: &Model, page: &mut Page) {
    page.blank();
    let engine = model.question.as_ref().and_then(|question| question.problem.as_deref());
    if model.is_sent() {
        page.text(Tone::Plain, "Please wait ...");
    } else if let Some(problem) = model.ui.problem.as_deref().or(engine) {
        page.hanging(Tone::Bad, "! ", problem);
    }
}

fn server_address(model: &Model, page: &mut Page) {
    page.text(Tone::Plain, "Where is the bundle server? Type its address, such as https://10.0.0.5:8443.");
    page.blank();
    page.field(&model.ui.field.text(), Some(model.ui.field.cursor()));
    remarks(model, page);
    if let Some(network) = &model.network {
        let up = network.interfaces.iter().filter(|interface| !interface.addresses.is_empty());
        let shown: Vec<String> = up.map(|one| format!("{} {}", one.name, one.addresses.join(" "))).collect();
        page.blank();
        if shown.is_empty() {
            page.text(Tone::Warning, "This machine has no address yet (^N shows its network).");
        } else {
            page.text(Tone::Plain, &format!("This machine: {}", shown.join(", ")));
        }
    }
}

fn restore_code(model: &Model, page: &mut Page) {
    page.text(Tone::Plain, "Type the code that `rerack arm NODE` printed. Case and dashes do not matter.");
    page.blank();
    let text = model.ui.code.text();
    page.field(&text, Some(text.chars().count()));
    remarks(model, page);
    if let Some(server) = &model.server {
        page.blank();
        page.text(Tone::Plain, &format!("Server: {}", server.url));
        page.text(Tone::Plain, "The code also proves that this is the right server.");
    }
}

fn choice(model: &Model, page: &mut Page) {
    match model.question.as_ref().map(|question| &question.ask) {
        Some(QuestionKind::Snapshot { .. }) => page.text(Tone::Plain, "Which snapshot of the node?"),
        Some(QuestionKind::Disk { old, .. }) => {
            page.text(Tone::Plain, &format!("Which disk takes the place of {old}?"))
        }
        _ => page.text(Tone::Plain, "Which node is this machine to become?"),
    }
    page.blank();
    let (label_width, _) = widths(model.choices(), page.width());
    for (at, choice) in model.choices().iter().enumerate() {
        let chosen = at == model.ui.choice;
        let mark = if chosen { ">" } else { " " };
        let number = if at < 9 { format!("{}", at + 1) } else { " ".into() };
        let detail = choice.detail.as_deref().unwrap_or_default();
        let row = format!("{mark} {number} {:<label_width$}  {detail}", choice.label);
        if chosen {
            page.focus = Some(page.lines.len());
        }
        page.row(if chosen { Tone::Chosen } else { Tone::Plain }, &row);
    }
    if model.choices().is_empty() {
        page.text(Tone::Warning, "There is nothing to choose from.");
    }
    remarks(model, page);
}

/// How wide labels and details may be.
fn widths(choices: &[Choice], width: usize) -> (usize, usize) {
    let label = choices.iter().map(|choice| choice.label.chars().count()).max().unwrap_or(0).min(width / 2);
    (label, width.saturating_sub(label + 6))
}

fn consent(model: &Model, page: &mut Page) {
    let Some(QuestionKind::PlanConsent(PlanConsent { digest, disks })) = model.question.as_ref().map(|q| &q.ask) else {
        return;
    };
    page.text(Tone::Bad, "THESE DISKS WILL BE ERASED.");
    page.text(
        Tone::Plain,
        "For each one, type the end of its serial number and press Enter. Enter alone does nothing.",
    );
    for (at, disk) in disks.iter().enumerate() {
        page.heading(&disk.label);
        page.pair("Serial number", &disk.serial);
        page.pair("Type at least", &format!("the last {} characters", disk.chars));
        let Some(field) = model.ui.consent.get(at) else { continue };
        let focused = at == model.ui.focus && !model.is_sent();
        page.field(&field.text(), focused.then_some(field.cursor()));
        if disk.is_confirmed_by(&field.text()) {
            page.text(Tone::Good, "  confirmed");
        }
    }
    remarks(model, page);
    page.blank();
    page.text(Tone::Plain, &format!("Plan {digest}"));
}

fn trouble(model: &Model, page: &mut Page) {
    let Some((trouble, told_ms)) = &model.trouble else { return };
    page.text(Tone::Bad, &trouble.what);
    page.heading("Which");
    page.text(Tone::Plain, &trouble.which);
    page.heading("What now");
    page.text(Tone::Plain, &trouble.now_what);
    page.blank();
    if let Some(ByItself { choice, in_ms }) = trouble.by_itself {
        let what = match choice {
            TroubleChoice::Retry => "Trying again",
            TroubleChoice::Shell => "The shell opens",
            TroubleChoice::Reboot => "The machine restarts",
            TroubleChoice::PowerOff => "The machine powers off",
        };
        let left_ms = (told_ms + in_ms).saturating_sub(model.now_ms());
        page.text(Tone::Plain, &format!("{what} by itself in {} s.", left_ms.div_ceil(1000)));
    }
    page.text(
        Tone::Plain,
        match trouble.disks {
            TargetState::Untouched => "Nothing has been written to any disk.",
            TargetState::Unbootable => {
                "Target disks have been written and are not bootable until a restore is finished."
            }
            TargetState::Bootable => "The target disks can be booted.",
        },
    );
    page.blank();
    log(model, page, LOG_TAIL);
}

fn log(model: &Model, page: &mut Page, tail: usize) {
    let skip = model.log.len().saturating_sub(tail);
    for line in model.log.iter().skip(skip) {
        let (sign, tone) = match line.level {
            LogLevel::Detail | LogLevel::Info => (" ", Tone::Plain),
            LogLevel::Warning => ("*", Tone::Warning),
            LogLevel::Error => ("!", Tone::Bad),
        };
        page.hanging(tone, &format!("{:>10} {sign} ", duration(line.at_ms)), &line.text);
    }
    if tail == usize::MAX && model.log.is_empty() {
        page.text(Tone::Plain, "The log is empty.");
    }
}
