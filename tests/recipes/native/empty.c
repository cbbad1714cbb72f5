int riverrun_nothing;
