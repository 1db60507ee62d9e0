//! Pipelines that have work and get nothing done are told.

use longshore_core::event::TableFlow;
use longshore_core::stream::Lag;

use super::*;

fn flow(lag: u64, commits: u64, parked: u64) -> RunEvent {
    let reason = (parked > 0).then(|| "it is locked".to_owned());
    let table = TableFlow { parked, reason, ..TableFlow::default() };
    RunEvent::Flow(Flow {
        commits,
        lag: vec![Lag { name: "orders/0".into(), messages: Some(lag) }],
        tables: [("orders".to_owned(), table)].into(),
        ..Flow::default()
    })
}

/// One that tells this each second.
fn telling(tell: impl Fn(u64) -> Option<RunEvent> + Send + Sync + 'static) -> Fake {
    let tell = Arc::new(tell);
    Fake::new(move |call| {
        let tell = tell.clone();
        async move {
            call.observer.event(&RunEvent::Waiting { reason: "the broker is away".into() });
            for second in 0.. {
                if let Some(event) = tell(second) {
                    call.observer.event(&event);
                }
                tokio::select! {
                    () = call.stop.requested() => break,
                    () = seconds(1) => {}
                }
            }
            Err(interrupted())
        }
    })
}

fn told(world: &World) -> Vec<(u64, String)> {
    world.told(|event| match event {
        ServerEvent::Stalled { seconds, reason, .. } => Some((*seconds, reason.clone())),
        ServerEvent::Flows { .. } => Some((0, "flows".into())),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_behind_and_commits_nothing_is_told_with_what_holds_it_up() {
    let fake = telling(|second| Some(if second < 400 { flow(7, 3, 2) } else { flow(5, 4, 0) }));
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(290).await;
    assert!(told(&world).is_empty());
    seconds(20).await;
    let reason = "7 messages wait to be read, and none is journalled; table orders keeps 2 commits waiting: it is locked";
    assert_eq!(told(&world), [(300, reason.to_owned())]);
    assert!(world.shared.board.pipelines()["a"].stalled.is_some());
    assert!(crate::metrics::text(&world.shared.board).contains("longshore_stalled{pipeline=\"a\"} 1\n"));
    seconds(100).await;
    assert_eq!(told(&world)[1..], [(0, "flows".to_owned())]);
    assert!(world.shared.board.pipelines()["a"].stalled.is_none());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_with_nothing_to_read_or_with_commits_is_not_stalled() {
    let idle = telling(|_| Some(flow(0, 0, 0)));
    let busy = telling(|second| Some(flow(7, second / 250, 0)));
    let world = World::new(vec![endless("a.yaml", "a", "1", &idle), endless("b.yaml", "b", "1", &busy)]);
    seconds(2000).await;
    assert_eq!(told(&world), []);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_never_heard_of_is_told_with_what_it_said_last() {
    let mute = telling(|_| None);
    let world = World::new(vec![endless("a.yaml", "a", "1", &mute)]);
    seconds(310).await;
    assert_eq!(told(&world), [(300, "its run has not begun to read; it waits: the broker is away".to_owned())]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn commits_that_nobody_publishes_are_told() {
    let blocked = telling(|_| Some(RunEvent::Flow(Flow { open: 8, ..Flow::default() })));
    let world = World::new(vec![endless("a.yaml", "a", "1", &blocked)]);
    seconds(310).await;
    assert_eq!(told(&world).len(), 1);
    assert!(told(&world)[0].1.starts_with("8 commits journalled and not published"));
    world.end().await;
}
