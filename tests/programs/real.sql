create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
  insert into t select i, printf('name-%05d', i * 7919 % 2003), i * 0.5 from n;
create index t_name on t(name);
select count(*), sum(value), min(name), max(name) from t;
select name, value from t where name like 'name-001%' order by name limit 10;
select substr(name, 1, 7) as p, count(*), round(avg(value), 3) from t group by p order by p limit 20;
begin; update t set value = value * 2 where id % 3 = 0; rollback;
begin; delete from t where id % 2 = 0; commit;
select count(*), total(value) from t;
select a.id, b.id from t a join t b on a.id + 2 = b.id where a.id < 20;
select json_group_array(name) from (select name from t order by id limit 5);
select * from no_such_table;
pragma integrity_check;
select hex(zeroblob(8)), quote('it''s'), upper('abc'), abs(-5), strftime('%Y', 0, 'unixepoch');
