use futures_util::FutureExt;
use uuid::Uuid;

use super::*;

fn payer(organization: u128, member: u128) -> Payer {
    let account = Account::Organization(Uuid::from_u128(organization));
    Payer { account, member: Account::Subject(Uuid::from_u128(member)) }
}

fn turns(at_once: usize, crowd: usize) -> Arc<Turns<u32>> {
    Turns::new(TurnLimits { at_once, crowd })
}

type Row = Vec<(u32, futures_util::future::BoxFuture<'static, Result<Turn<u32>, Full>>)>;

fn line_up(turns: &Arc<Turns<u32>>, row: &mut Row, payer: Payer, what: u32) -> bool {
    let place = turns.line_up(payer, what);
    place.map(|place| row.push((what, place.turn().boxed()))).is_ok()
}

/// Those whose turn it is now, with their turns.
fn called(row: &mut Row) -> Vec<(u32, Turn<u32>)> {
    let mut called = Vec::new();
    row.retain_mut(|(what, place)| match place.now_or_never() {
        Some(turn) => {
            called.extend(turn.ok().map(|turn| (*what, turn)));
            false
        }
        None => true,
    });
    called
}

/// The order in which they have their turns, one at a time.
fn order(row: &mut Row) -> Vec<u32> {
    let mut order = Vec::new();
    loop {
        let turns = called(row);
        if turns.is_empty() {
            return order;
        }
        order.extend(turns.iter().map(|(what, _)| what));
    }
}

fn check_empty(turns: &Turns<u32>) {
    let state = turns.lock();
    assert!(state.accounts.is_empty() && state.taken_by.is_empty() && state.busy.is_empty());
    assert_eq!((state.waiting, state.taken), (0, 0));
}

#[test]
fn accounts_take_turns_and_so_do_members_of_one() {
    let (turns, mut row) = (turns(1, 100), Row::new());
    for what in 0..6 {
        assert!(line_up(&turns, &mut row, payer(1, 1), what));
    }
    assert!(line_up(&turns, &mut row, payer(1, 2), 10));
    assert!(line_up(&turns, &mut row, payer(2, 1), 20));
    assert!(line_up(&turns, &mut row, payer(2, 1), 21));
    assert_eq!(order(&mut row), [0, 1, 20, 10, 21, 2, 3, 4, 5]);
    check_empty(&turns);
}

#[test]
fn who_comes_again_after_each_turn_is_no_newcomer_each_time() {
    let (turns, mut row) = (turns(1, 100), Row::new());
    assert!(line_up(&turns, &mut row, payer(1, 1), 0));
    let mut turn = called(&mut row);
    assert!(line_up(&turns, &mut row, payer(2, 1), 20) && line_up(&turns, &mut row, payer(2, 1), 21));
    let mut order = Vec::new();
    for what in 1..=3 {
        assert!(line_up(&turns, &mut row, payer(1, 1), what));
        drop(turn);
        turn = called(&mut row);
        order.extend(turn.iter().map(|(what, _)| *what));
    }
    assert_eq!(order, [20, 1, 21]);
}

#[test]
fn one_account_never_has_all_turns() {
    let (turns, mut row) = (turns(3, 100), Row::new());
    for what in 0..5 {
        line_up(&turns, &mut row, payer(1, what.into()), what);
    }
    let first = called(&mut row);
    assert_eq!(first.len(), 2);
    line_up(&turns, &mut row, payer(2, 1), 20);
    let other = called(&mut row);
    assert_eq!(other.iter().map(|(what, _)| *what).collect::<Vec<_>>(), [20]);
    drop((first, other));
    assert_eq!(order(&mut row), [2, 3, 4]);
    check_empty(&turns);
}

#[test]
fn of_the_same_one_at_a_time_has_its_turn() {
    let (turns, mut row) = (turns(9, 100), Row::new());
    for what in [7, 7, 8] {
        line_up(&turns, &mut row, payer(1, 1), what);
    }
    line_up(&turns, &mut row, payer(2, 1), 7);
    let first = called(&mut row);
    assert_eq!(first.iter().map(|(what, _)| *what).collect::<Vec<_>>(), [7, 8]);
    drop(first);
    assert_eq!(order(&mut row), [7, 7]);
    check_empty(&turns);
}

#[test]
fn who_goes_away_is_not_called_and_gives_back_what_it_had() {
    let (turns, mut row) = (turns(1, 100), Row::new());
    for what in 0..4 {
        line_up(&turns, &mut row, payer(1, what.into()), what);
    }
    let first = called(&mut row);
    drop(row.remove(1));
    drop(first);
    // Called, and gone before it knew.
    drop(row.remove(0));
    assert_eq!(order(&mut row), [3]);
    check_empty(&turns);
}

#[test]
fn a_newcomer_has_the_place_of_whoever_has_most() {
    let (turns, mut row) = (turns(1, 5), Row::new());
    for what in 0..5 {
        assert!(line_up(&turns, &mut row, payer(1, 1), what));
    }
    let first = called(&mut row);
    assert!(!line_up(&turns, &mut row, payer(1, 1), 5), "its own account has most");
    assert!(line_up(&turns, &mut row, payer(1, 2), 10), "another member of it");
    assert!(line_up(&turns, &mut row, payer(2, 1), 20), "another account");
    assert!(line_up(&turns, &mut row, payer(2, 1), 21), "it still has fewer");
    assert!(!line_up(&turns, &mut row, payer(2, 1), 22), "it has as many now");
    assert_eq!(turns.crowd(), 5);
    drop(first);
    assert_eq!(order(&mut row), [1, 20, 10, 21]);
    check_empty(&turns);
}
