//! The stateless operators and the bounded sources, in every way a tasklet may call them.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion_expr_common::operator::Operator;

use super::{
    NamedExpr, filter, limit, project,
    testkit::{batch, bigints, binary, column, literal, minus, mixed, plus},
    union, values,
};
use crate::{
    processor::{Inbox, Outbox},
    testing::verify_processor,
};

fn schema() -> SchemaRef {
    bigints(&["a", "b"])
}

fn pairs(a: &[i64], b: &[i64]) -> RecordBatch {
    batch(&schema(), &[a, b])
}

#[test]
fn filter_keeps_rows_with_their_weights() {
    let predicate = binary(column(&schema(), 0), Operator::Gt, literal(1));
    verify_processor(filter(predicate, schema()))
        .rows(0, plus(pairs(&[1, 2, 3], &[10, 20, 30])))
        .watermark(5)
        .rows(0, minus(pairs(&[0, 2], &[10, 20])))
        .rows(0, mixed(pairs(&[0, 4, 5], &[1, 2, 3]), &[7, -2, 3]))
        .rows(0, plus(pairs(&[0, 1], &[1, 2])))
        .expect(vec![plus(pairs(&[3], &[30])), mixed(pairs(&[4, 5], &[2, 3]), &[-2, 3])])
        .expect_watermarks(vec![5])
        .linear()
        .run();
}

#[test]
fn filter_passes_a_batch_that_is_all_true_without_copying_it() {
    let predicate = binary(column(&schema(), 0), Operator::Gt, literal(0));
    let mut processor = filter(predicate, schema()).create(1).unwrap().remove(0);
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::new(1));
    let rows = pairs(&[1, 2], &[3, 4]);
    inbox.push(plus(rows.clone()));
    processor.process(0, &mut inbox, &mut outbox).unwrap();
    let Some(crate::item::Item::Batch(passed)) = outbox.take() else { panic!("a batch") };
    assert!(Arc::ptr_eq(passed.rows.column(0), rows.column(0)));
}

#[test]
fn filter_treats_null_as_false() {
    let input = bigints(&["a"]);
    let nullable: arrow::array::ArrayRef =
        Arc::new(arrow::array::Int64Array::from(vec![Some(1), None, Some(3)]));
    let rows = RecordBatch::try_new(Arc::clone(&input), vec![nullable]).unwrap();
    let predicate = binary(column(&input, 0), Operator::Gt, literal(1));
    verify_processor(filter(predicate, Arc::clone(&input)))
        .rows(0, plus(rows))
        .expect(vec![plus(batch(&input, &[&[3]]))])
        .run();
}

#[test]
fn filter_describes_its_condition() {
    let predicate = binary(column(&schema(), 0), Operator::Gt, literal(1));
    assert_eq!(filter(predicate, schema()).describe(), "filter(a > 1)");
}

fn sum_of_both() -> Vec<NamedExpr> {
    let both = binary(column(&schema(), 0), Operator::Plus, column(&schema(), 1));
    vec![
        NamedExpr { expr: both, name: "sum".to_owned() },
        NamedExpr { expr: column(&schema(), 0), name: "a".to_owned() },
    ]
}

#[test]
fn project_computes_columns_and_keeps_weights() {
    let supplier = project(sum_of_both(), schema());
    let output = supplier.schema();
    assert_eq!(supplier.describe(), "project(a + b as sum, a)");
    verify_processor(supplier)
        .rows(0, plus(pairs(&[1, 2], &[10, 20])))
        .watermark(3)
        .rows(0, minus(pairs(&[2], &[20])))
        .rows(0, mixed(pairs(&[5, 6], &[0, 0]), &[3, -4]))
        .expect(vec![
            plus(batch(&output, &[&[11], &[1]])),
            mixed(batch(&output, &[&[5, 6], &[5, 6]]), &[3, -4]),
        ])
        .linear()
        .run();
}

#[test]
fn project_reports_division_by_zero_as_the_users_error() {
    let ratio = binary(column(&schema(), 0), Operator::Divide, column(&schema(), 1));
    let exprs = vec![NamedExpr { expr: ratio, name: "ratio".to_owned() }];
    let error =
        verify_processor(project(exprs, schema())).rows(0, plus(pairs(&[1], &[0]))).run_to_error();
    assert!(
        matches!(&error, crate::Error::User { code: "22012", message } if message == "division by zero"),
        "{error:?}"
    );
}

#[test]
fn union_passes_all_inputs_under_the_outputs_names() {
    let output = bigints(&["x", "y"]);
    verify_processor(union(Arc::clone(&output)))
        .rows(0, plus(pairs(&[1], &[2])))
        .rows(1, minus(pairs(&[3], &[4])))
        .end(0)
        .rows(1, mixed(pairs(&[5], &[6]), &[2]))
        .expect(vec![mixed(batch(&output, &[&[1, 3, 5], &[2, 4, 6]]), &[1, -1, 2])])
        .linear()
        .run();
}

#[test]
fn limit_skips_passes_and_is_then_finished() {
    verify_processor(limit(2, Some(3), schema()))
        .rows(0, plus(pairs(&[1, 2, 3], &[1, 2, 3])))
        .rows(0, plus(pairs(&[4], &[4])))
        .watermark(1)
        .rows(0, plus(pairs(&[5, 6, 7], &[5, 6, 7])))
        .expect(vec![plus(pairs(&[3, 4, 5], &[3, 4, 5]))])
        .in_order()
        .run();
    let nothing = limit(0, Some(0), schema()).create(1).unwrap().remove(0);
    assert!(nothing.is_finished(), "LIMIT 0 needs no row");
    assert_eq!(limit(2, Some(3), schema()).describe(), "limit(3 offset 2)");
}

#[test]
fn limit_counts_multiplicities() {
    verify_processor(limit(1, Some(4), schema()))
        .rows(0, mixed(pairs(&[1, 2, 3, 4], &[0, 0, 0, 0]), &[3, 0, 1, 9]))
        .expect(vec![mixed(pairs(&[1, 3, 4], &[0, 0, 0]), &[2, 1, 1])])
        .run();
}

#[test]
fn limit_refuses_retractions() {
    for batch in [minus(pairs(&[1], &[1])), mixed(pairs(&[1], &[1]), &[-1])] {
        let error = verify_processor(limit(0, Some(4), schema())).rows(0, batch).run_to_error();
        assert!(matches!(error, crate::Error::Invalid { code: "0A000", .. }), "{error:?}");
    }
}

#[test]
fn values_come_once_and_from_one_instance() {
    let batches = vec![pairs(&[1], &[2]), pairs(&[], &[]), pairs(&[3, 4], &[5, 6])];
    let supplier = values(batches, schema());
    let expected = vec![plus(pairs(&[1, 3, 4], &[2, 5, 6]))];
    verify_processor(Arc::clone(&supplier)).expect(expected).in_order().run();
    assert_eq!(supplier.describe(), "values(3 rows)");
    let (env, _) = storage::env::Env::simulated(1);
    let grid = storage::Grid::open(storage::GridConfig::default(), env).unwrap();
    let mut second = supplier.create(2).unwrap().remove(1);
    let context = crate::processor::ProcessorContext {
        index: 1,
        parallelism: 2,
        ..crate::testing::context(&grid)
    };
    second.init(&context).unwrap();
    let mut outbox = Outbox::new(8);
    assert_eq!(second.idle(&mut outbox).unwrap(), crate::processor::Done::Yes);
    assert!(outbox.take().is_none());
}
