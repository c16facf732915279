//! Assigns results to inputs as a whole, where single comparisons leave several possibilities.
//!
//! Each result belongs to one input, and each input has one result. A pair is certain if every complete
//! assignment has it. Two inputs that are alike may exchange their results, and so may inputs whose results
//! have equal contents.

/// For each result, the input that it has in every complete assignment, or an input that is as right. `fits`
/// has the inputs that each result may belong to. `None` for results that are not certain, and for all if
/// there is no complete assignment.
///
/// `are_alike` is true for two inputs of which either may have the result of the other. `are_equal` is true for
/// two pairs of result and input whose results have the same content, also in all that the inputs wrote.
pub(super) fn certain_inputs(
    fits: &[Vec<usize>],
    inputs: usize,
    are_alike: impl Fn(usize, usize) -> bool,
    are_equal: impl Fn((usize, usize), (usize, usize)) -> bool,
) -> Vec<Option<usize>> {
    let Some(result_of) = complete_assignment(fits, inputs) else { return vec![None; fits.len()] };
    let mut input_of = vec![None; fits.len()];
    for (input, result) in result_of.iter().enumerate() {
        if let Some(result) = *result {
            input_of[result] = Some(input);
        }
    }
    // A result can have the input of another one if the others on a path back to it can move on as well.
    let others = |result: usize| fits[result].iter().filter_map(|&input| result_of[input]);
    let is_reachable: Vec<Vec<bool>> = (0..fits.len())
        .map(|start| {
            let mut is_reached = vec![false; fits.len()];
            let mut left = vec![start];
            while let Some(result) = left.pop() {
                if !std::mem::replace(&mut is_reached[result], true) {
                    left.extend(others(result));
                }
            }
            is_reached
        })
        .collect();
    let certain = |(result, input): (usize, Option<usize>)| {
        let own = input?;
        let can_exchange = |&other: &usize| other != result && is_reachable[other][result];
        let mut exchanged = others(result).filter(can_exchange);
        let has_alike_inputs =
            exchanged.all(|other| input_of[other].is_some_and(|other| are_alike(own, other)));
        // An exchange may pass through others, so all of them have the same content.
        let mut circle =
            (0..fits.len()).filter(|other| can_exchange(other) && is_reachable[result][*other]);
        let is_certain = has_alike_inputs
            || circle.all(|other| {
                input_of[other].is_some_and(|input| are_equal((result, own), (other, input)))
            });
        is_certain.then_some(own)
    };
    input_of.iter().copied().enumerate().map(certain).collect()
}

/// True if there is a complete assignment.
pub(super) fn is_complete(fits: &[Vec<usize>], inputs: usize) -> bool {
    complete_assignment(fits, inputs).is_some()
}

/// For each input, its result in one of the complete assignments; `None` if there is none.
fn complete_assignment(fits: &[Vec<usize>], inputs: usize) -> Option<Vec<Option<usize>>> {
    let mut result_of = vec![None; inputs];
    (0..fits.len())
        .all(|result| assign(result, fits, &mut result_of, &mut vec![false; inputs]))
        .then_some(result_of)
}

/// Assigns one more result, and moves others to other inputs for it. False if that is not possible. At most
/// one hundred results take part: it calls itself at most once for each.
fn assign(
    result: usize,
    fits: &[Vec<usize>],
    result_of: &mut [Option<usize>],
    is_tried: &mut [bool],
) -> bool {
    for &input in &fits[result] {
        if std::mem::replace(&mut is_tried[input], true) {
            continue;
        }
        let current = result_of[input];
        if current.is_none_or(|other| assign(other, fits, result_of, is_tried)) {
            result_of[input] = Some(result);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_certain_if_every_complete_assignment_has_it() {
        let never = |_: usize, _: usize| false;
        let first_two = |one: usize, other: usize| one < 2 && other < 2;
        for (fits, alike, certain) in [
            (vec![vec![0]], &never as &dyn Fn(usize, usize) -> bool, vec![Some(0)]),
            // The second result fits only one input, so the first has the other.
            (vec![vec![0, 1], vec![0]], &never, vec![Some(1), Some(0)]),
            (vec![vec![0, 1], vec![0, 1]], &never, vec![None, None]),
            // Two alike, and one that fits all: the third is certain.
            (
                vec![vec![0, 1], vec![0, 1], vec![0, 1, 2]],
                &first_two,
                vec![Some(0), Some(1), Some(2)],
            ),
            (vec![vec![0, 1], vec![0, 1], vec![0, 1, 2]], &never, vec![None, None, Some(2)]),
            // A cycle of three: none is certain.
            (vec![vec![0, 1], vec![1, 2], vec![2, 0]], &never, vec![None; 3]),
            // No complete assignment.
            (vec![vec![0], vec![0]], &never, vec![None, None]),
            (vec![vec![], vec![0, 1]], &never, vec![None, None]),
        ] {
            let inputs = fits.len();
            let mut found = certain_inputs(&fits, inputs, alike, |_, _| false);
            // Alike inputs are in any order.
            if found.iter().flatten().filter(|input| alike(**input, **input)).count() > 1 {
                found[..2].sort_unstable();
            }
            assert_eq!(found, certain, "{fits:?}");
        }
    }

    #[test]
    fn results_with_equal_contents_are_exchanged_only_within_a_circle_of_them() {
        let circle = vec![vec![0, 1], vec![1, 2], vec![2, 0]];
        let pair_and_last = vec![vec![0, 1], vec![0, 1], vec![0, 1, 2]];
        let all = |_: usize| true;
        let not_last = |result: usize| result < 2;
        for (fits, is_equal, certain) in [
            (&circle, &all as &dyn Fn(usize) -> bool, [true; 3]),
            // The third may be what the first or the second input has.
            (&circle, &not_last, [false; 3]),
            (&pair_and_last, &not_last, [true; 3]),
        ] {
            let are_equal =
                |one: (usize, usize), other: (usize, usize)| is_equal(one.0) && is_equal(other.0);
            let found = certain_inputs(fits, 3, |_, _| false, are_equal);
            assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), certain, "{fits:?}");
            let mut inputs: Vec<usize> = found.into_iter().flatten().collect();
            inputs.sort_unstable();
            inputs.dedup();
            assert_eq!(inputs.len(), certain.iter().filter(|is_certain| **is_certain).count());
        }
    }

    #[test]
    fn a_hundred_results_that_fit_all_inputs_are_assigned_once_each() {
        let fits: Vec<Vec<usize>> = (0..100).map(|_| (0..100).collect()).collect();
        let mut found = certain_inputs(&fits, 100, |_, _| true, |_, _| false);
        found.sort_unstable();
        assert_eq!(found, (0..100).map(Some).collect::<Vec<_>>());
    }
}
