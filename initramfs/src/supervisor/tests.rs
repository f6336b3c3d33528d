use proptest::prelude::*;

use super::*;

const OPERATOR: Policy = Policy { unattended: false, shell: false, consoles: 2 };
const NOBODY: Policy = Policy { unattended: true, shell: false, consoles: 1 };

fn begun() -> Event {
    Event::Begun { wrong_arguments: vec![] }
}

fn network(outcome: NetworkOutcome) -> Event {
    Event::Network { outcome, note: "no interface has a link".into() }
}

fn crash() -> Event {
    Event::EngineEnded(Ended::Failed("killed by signal 6".into()))
}

fn running(policy: Policy) -> Supervisor {
    let mut supervisor = Supervisor::new(policy);
    supervisor.handle(begun(), 0);
    supervisor.handle(network(NetworkOutcome::Up), 1_000);
    supervisor
}

/// Wakes the machine at every time that it asks for, at most `times` times.
fn wake(supervisor: &mut Supervisor, mut actions: Vec<Action>, times: usize) -> (Vec<Action>, u64) {
    let mut now_ms = 0;
    for _ in 0..times {
        let Some(Action::WakeAt(at_ms)) = actions.last() else { break };
        now_ms = *at_ms;
        actions = supervisor.handle(Event::Woken, now_ms);
    }
    (actions, now_ms)
}

#[test]
fn screens_come_first_then_the_network_then_the_engine() {
    let mut supervisor = Supervisor::new(OPERATOR);
    let status = |text: &str| Action::Status(text.into());
    assert_eq!(
        supervisor.handle(begun(), 0),
        [status("Waiting for the network"), Action::BringUpNetwork, Action::StartScreen(0), Action::StartScreen(1)]
    );
    assert_eq!(
        supervisor.handle(network(NetworkOutcome::Up), 900),
        [status("Starting the restore engine"), Action::StartEngine { restarts: 0 }]
    );
}

#[test]
fn what_the_engine_asks_for_is_done() {
    let ask = |code| running(OPERATOR).handle(Event::EngineEnded(Ended::Exit(code)), 2_000);
    assert_eq!(ask(EXIT_REBOOT), [Action::Reboot]);
    assert_eq!(ask(EXIT_POWER_OFF), [Action::PowerOff]);
    assert!(ask(EXIT_RETRY).contains(&Action::BringUpNetwork));
    // It always says what it wants: an end without that is a failure like any other.
    assert_eq!(ask(0).last(), Some(&Action::WakeAt(3_000)));
}

#[test]
fn a_crashed_engine_comes_back_later_each_time_and_then_a_person_is_asked() {
    let mut supervisor = running(OPERATOR);
    let mut pauses = Vec::new();
    let mut now_ms = 2_000;
    for restarts in 1..5 {
        let actions = supervisor.handle(crash(), now_ms);
        let (actions, at_ms) = wake(&mut supervisor, actions, 1);
        assert!(actions.contains(&Action::StartEngine { restarts }), "{actions:?}");
        pauses.push(at_ms - now_ms);
        now_ms = at_ms;
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000]);
    let actions = supervisor.handle(crash(), now_ms);
    let [Action::StopScreens, Action::ShowMenu { text, .. }] = &actions[..] else { panic!("{actions:?}") };
    insta::assert_snapshot!(text.join("\n"));
    // The screens that end now do not come back by themselves, and Retry brings everything back.
    assert_eq!(supervisor.handle(Event::ScreenEnded { console: 0, ended: Ended::Exit(0) }, now_ms), []);
    let retried = supervisor.handle(Event::Chosen { console: 1, choice: Choice::Retry }, now_ms);
    assert!(retried.contains(&Action::BringUpNetwork) && retried.contains(&Action::StartScreen(1)), "{retried:?}");
}

#[test]
fn a_crash_after_a_long_run_is_the_first_again() {
    let mut supervisor = running(OPERATOR);
    let mut now_ms = 0;
    for _ in 0..20 {
        now_ms += SETTLED_MS + 10_000;
        let actions = supervisor.handle(crash(), now_ms);
        assert_eq!(actions.last(), Some(&Action::WakeAt(now_ms + 1_000)));
        now_ms += 1_000;
        supervisor.handle(Event::Woken, now_ms);
    }
}

#[test]
fn where_nobody_is_expected_it_never_stops_trying() {
    let mut supervisor = Supervisor::new(NOBODY);
    supervisor.handle(begun(), 0);
    let mut now_ms = 0;
    for _ in 0..30 {
        let actions = supervisor.handle(network(NetworkOutcome::Failed), now_ms);
        let (actions, at_ms) = wake(&mut supervisor, actions, 1);
        assert!(actions.contains(&Action::BringUpNetwork), "{actions:?}");
        assert!(at_ms > now_ms && at_ms <= now_ms + BACK_OFF_MAX_MS);
        now_ms = at_ms;
    }
    supervisor.handle(network(NetworkOutcome::Up), now_ms);
    for _ in 0..30 {
        let actions = supervisor.handle(crash(), now_ms);
        let (actions, at_ms) = wake(&mut supervisor, actions, 1);
        assert!(actions.iter().any(|action| matches!(action, Action::StartEngine { .. })), "{actions:?}");
        now_ms = at_ms;
    }
}

#[test]
fn without_a_network_a_person_sees_the_engines_screens() {
    let mut supervisor = Supervisor::new(OPERATOR);
    supervisor.handle(begun(), 0);
    let actions = supervisor.handle(network(NetworkOutcome::Failed), 30_000);
    assert!(actions.contains(&Action::StartEngine { restarts: 0 }), "{actions:?}");
}

#[test]
fn wrong_arguments_are_explained_and_nothing_is_started() {
    let wrong = || Event::Begun { wrong_arguments: vec!["unknown argument rerack.sever".into()] };
    let actions = Supervisor::new(OPERATOR).handle(wrong(), 0);
    let [Action::StopScreens, Action::ShowMenu { text, .. }] = &actions[..] else { panic!("{actions:?}") };
    insta::assert_snapshot!(text.join("\n"));

    let mut unattended = Supervisor::new(NOBODY);
    let actions = unattended.handle(wrong(), 0);
    let (actions, at_ms) = wake(&mut unattended, actions, 1);
    assert_eq!((&actions[0], at_ms), (&Action::Reboot, ARGUMENTS_REBOOT_MS));
}

#[test]
fn a_crashed_screen_comes_back_and_never_stops_the_engine() {
    let mut supervisor = running(OPERATOR);
    let ended = || Event::ScreenEnded { console: 1, ended: Ended::Failed("killed by signal 11".into()) };
    let actions = supervisor.handle(ended(), 2_000);
    assert_eq!(actions, [Action::WakeAt(3_000)]);
    assert_eq!(supervisor.handle(Event::Woken, 3_000), [Action::StartScreen(1)]);
    assert_eq!(supervisor.handle(ended(), 4_000), [Action::WakeAt(6_000)]);
}

fn crash_until_the_menu(supervisor: &mut Supervisor) {
    for _ in 0..CRASHES_MAX {
        supervisor.handle(crash(), 4_000);
        supervisor.handle(Event::Woken, 20_000);
    }
    assert!(matches!(supervisor.state, State::Menu { .. }));
}

#[test]
fn fault_53_no_shell_that_was_not_allowed() {
    let ask = || Event::ScreenEnded { console: 0, ended: Ended::Exit(EXIT_SHELL) };
    let shell = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::StartShell(_)));
    let mut forbidden = running(OPERATOR);
    assert!(!shell(&forbidden.handle(ask(), 2_000)));
    crash_until_the_menu(&mut forbidden);
    assert!(!shell(&forbidden.handle(Event::Chosen { console: 0, choice: Choice::Shell }, 3_000)));

    let mut allowed = running(Policy { shell: true, ..OPERATOR });
    assert_eq!(allowed.handle(ask(), 2_000), [Action::StartShell(0)]);
    assert_eq!(allowed.handle(Event::ShellEnded { console: 0 }, 3_000), [Action::StartScreen(0)]);
    crash_until_the_menu(&mut allowed);
    assert_eq!(allowed.handle(Event::Chosen { console: 1, choice: Choice::Shell }, 5_000), [Action::StartShell(1)]);
    let after = allowed.handle(Event::ShellEnded { console: 1 }, 6_000);
    assert!(matches!(after[..], [Action::ShowMenu { console: Some(1), .. }]), "{after:?}");
}

fn any_event() -> impl Strategy<Value = Event> {
    let ended = prop_oneof![(0..20i32).prop_map(Ended::Exit), Just(Ended::Failed("killed".into()))];
    let outcome = prop_oneof![Just(NetworkOutcome::Up), Just(NetworkOutcome::Failed), Just(NetworkOutcome::Off)];
    let choice = prop_oneof![Just(Choice::Retry), Just(Choice::Shell), Just(Choice::Reboot), Just(Choice::PowerOff)];
    prop_oneof![
        Just(begun()),
        outcome.prop_map(network),
        ended.clone().prop_map(Event::EngineEnded),
        (0..3usize, ended).prop_map(|(console, ended)| Event::ScreenEnded { console, ended }),
        (0..3usize).prop_map(|console| Event::ShellEnded { console }),
        (0..3usize, choice).prop_map(|(console, choice)| Event::Chosen { console, choice }),
        Just(Event::Woken),
    ]
}

proptest! {
    /// Whatever happens in whatever order: no panic, no console that does not exist, no forbidden shell, and the
    /// engine is never started while it runs.
    #[test]
    fn any_order_of_events_is_borne(events in prop::collection::vec(any_event(), 0..60), unattended in any::<bool>()) {
        let mut supervisor = Supervisor::new(Policy { unattended, shell: false, consoles: 2 });
        let mut engine = false;
        for (at, event) in events.into_iter().enumerate() {
            if matches!(event, Event::EngineEnded(_)) {
                engine = false;
            }
            for action in supervisor.handle(event, at as u64 * 700) {
                match action {
                    Action::StartEngine { .. } => {
                        prop_assert!(!engine, "started twice");
                        engine = true;
                    }
                    Action::StartScreen(console) => prop_assert!(console < 2),
                    Action::StartShell(_) => prop_assert!(false, "a shell"),
                    _ => {}
                }
            }
        }
    }
}
