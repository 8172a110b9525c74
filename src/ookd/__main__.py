from ookd.cli import main

raise SystemExit(main())
